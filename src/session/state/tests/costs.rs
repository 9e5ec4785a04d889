//! What a session costs: memory while it is idle, and work that must not grow with what it has been through.

use super::*;

#[test]
fn an_idle_core_is_small() {
    assert!(size_of::<State>() <= 1536, "{}", size_of::<State>());
    assert!(size_of::<Event>() <= 256, "{}", size_of::<Event>());
    assert!(size_of::<Effect>() <= 192, "{}", size_of::<Effect>());
}

#[test]
fn a_busy_time_leaves_no_room_behind() {
    let mut core = CoreHarness::live(Limits { idle_timeout: None, ..limits() });
    for stream in 2..1000 {
        core.post(stream, &ask(&stream.to_string(), "x"));
    }
    for _ in 0..1000 {
        core.server(&ask("1", "roots/list"));
    }
    for number in 1..1000 {
        core.client(0, &answer(&number.to_string()));
        core.server(&answer(&(number + 1).to_string()));
    }
    core.client(0, &answer("1000"));
    assert_eq!(core.state.requests_in_flight(), 0);
    assert_eq!(core.state.pending.server_requests_open(), 0);
    let room = core.state.pending.room() + core.state.client().capacity_for_ids();
    assert!(room <= 96, "{room}");
    core.wait(secs(1000));
    assert_eq!(core.state.client().outbox.stream_count(), 0);
    assert!(core.state.client().outbox.room() <= 192, "{}", core.state.client().outbox.room());
}

/// How long a thousand calls and notifications take, in a session that looks after so many old streams and open calls.
fn busy(old: u64, open: u64) -> Duration {
    let mut core = CoreHarness::live(Limits { replay_bytes: 64 * 1024 * 1024, in_flight: 10_000, ..limits() });
    let mut number = 1;
    let mut call = |core: &mut CoreHarness, answered: bool| {
        number += 1;
        core.post(number, &ask(&number.to_string(), "x"));
        if answered {
            core.server(&answer(&number.to_string()));
        }
    };
    for _ in 0..old {
        call(&mut core, true);
    }
    for _ in 0..open {
        call(&mut core, false);
    }
    let start = clock();
    for _ in 0..1000 {
        call(&mut core, true);
        core.server(&tell("log"));
        core.state.next_deadline(core.now);
    }
    clock() - start
}

#[test]
fn the_work_of_an_event_does_not_grow_with_the_past() {
    // Generous, because machines are shared: a look through all streams at every event is a hundred times as slow.
    let (fresh, laden) = (busy(0, 4), busy(16_000, 1024));
    assert!(laden < fresh * 10 + Duration::from_millis(50), "{laden:?} against {fresh:?}");
}
