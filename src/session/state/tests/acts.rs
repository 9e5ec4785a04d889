//! What a client, a server and time can do, made up by chance.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What happens next. The numbers pick from what there is, or make up what there is not.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Open(StreamKind),
    /// A new request on its own stream.
    Post(StreamKind, u8),
    /// Messages on a stream that there is, or is not.
    Client(u8, Vec<Said>),
    ClientOversized(u8, bool),
    Server(Vec<Said>),
    ServerOversized(u8, bool),
    Lose(u8),
    /// The second number is where the client claims to be: 0 for the truth.
    Resume(u8, u8),
    Pass(u16),
    Tick,
    InputEnded,
    Drain,
    End,
    LinkClosed,
}

/// What one of the two says.
#[derive(Debug, Clone)]
pub(super) enum Said {
    Ask(u8),
    Answer(u8),
    Cancel(u8),
    Progress(u8),
    Notification,
    Broken(u8),
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        4 => any::<u8>().prop_map(Said::Ask),
        6 => any::<u8>().prop_map(Said::Answer),
        1 => any::<u8>().prop_map(Said::Cancel),
        2 => any::<u8>().prop_map(Said::Progress),
        3 => Just(Said::Notification),
        1 => any::<u8>().prop_map(Said::Broken),
    ]
}

fn kind() -> impl Strategy<Value = StreamKind> {
    prop_oneof![5 => Just(StreamKind::Post), 2 => Just(StreamKind::Single), 2 => Just(StreamKind::Get)]
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => kind().prop_map(Act::Open),
        12 => (kind(), any::<u8>()).prop_map(|(kind, id)| Act::Post(kind, id)),
        8 => (any::<u8>(), vec(said(), 1..5)).prop_map(|(stream, said)| Act::Client(stream, said)),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(id, request)| Act::ClientOversized(id, request)),
        14 => vec(said(), 1..5).prop_map(Act::Server),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(id, request)| Act::ServerOversized(id, request)),
        6 => any::<u8>().prop_map(Act::Lose),
        5 => (any::<u8>(), 0_u8..20).prop_map(|(stream, after)| Act::Resume(stream, after)),
        5 => any::<u16>().prop_map(Act::Pass),
        3 => Just(Act::Tick),
        1 => prop_oneof![Just(Act::InputEnded), Just(Act::Drain), Just(Act::End), Just(Act::LinkClosed)],
    ]
}

pub(super) fn any_limits() -> impl Strategy<Value = Limits> {
    let seconds = |from: u64, to: u64| (from..to).prop_map(secs);
    (
        proptest::option::of(seconds(1, 100)),
        seconds(1, 50),
        seconds(1, 20),
        prop_oneof![Just(Duration::MAX), seconds(1, 30)],
        proptest::option::of(seconds(1, 40)),
        prop_oneof![Just(600_usize), Just(3000), Just(1 << 20)],
        prop_oneof![Just(2_usize), Just(1024)],
        prop_oneof![Just(150_usize), Just(1 << 20)],
    )
        .prop_map(
            |(
                idle_timeout,
                lost_stream,
                stream_wait,
                stall,
                request_timeout,
                replay_bytes,
                in_flight,
                message_size,
            )| Limits {
                idle_timeout,
                lost_stream,
                stream_wait,
                stall,
                request_timeout,
                server_wait: secs(7),
                drain: secs(5),
                replay_bytes,
                in_flight,
                message_size,
            },
        )
}
