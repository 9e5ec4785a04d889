//! The steps of the property test: what the client, the server and time do next.

use super::*;

impl OrderHarness {
    pub(super) fn client_words(&mut self, said: &Said) -> (String, Option<String>) {
        match said {
            Said::Ask(pick) => {
                let id = self.fresh_id(*pick);
                let id = id.replace("\\u0069", "i");
                let quoted = serde_json::to_string(&format!("call {id}")).unwrap();
                let token = if pick % 3 == 0 { id.clone() } else { "null".to_owned() };
                let task = if pick % 5 == 0 { r#""task":{},"# } else { "" };
                let json = format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"method":{quoted},"params":{{{task}"_meta":{{"progressToken":{token}}}}}}}"#
                );
                (json, Some(id))
            }
            Said::Answer(pick) => (answer(&pick_from(&self.server_request_numbers, *pick)), None),
            Said::Cancel(pick) => {
                let mut ids: Vec<_> = self.calls.keys().cloned().collect();
                ids.sort();
                let id = pick_from(&ids, *pick);
                if let Some(count) = self.calls.get_mut(&id) {
                    // It may have been answered already: then this is for nothing.
                    count.lost = true;
                }
                (cancel(&id), None)
            }
            Said::Progress(pick) => (progress(&pick.to_string()), None),
            Said::Notification => (tell("log"), None),
            Said::Broken(pick) => {
                let id = self.fresh_id(pick.saturating_add(60));
                (format!(r#"{{"jsonrpc":"2.0","id":{id}}}"#), Some(id))
            }
        }
    }

    pub(super) fn server_words(&mut self, said: &Said) -> String {
        self.told += 1;
        let at = format!(r#"{{"at":{},"#, self.told);
        let json = match said {
            Said::Ask(pick) => {
                let id = if *pick < 30 { format!("\"s{}\"", pick % 4) } else { format!("\"s{}\"", self.told + 100) };
                self.server_requests.entry(id.clone()).or_default().asked += 1;
                ask(&id, if *pick > 240 { "ping" } else { "roots/list" })
            }
            Said::Answer(pick) if *pick > 230 => error(&pick_from(&self.call_numbers, *pick)),
            Said::Answer(pick) => answer(&pick_from(&self.call_numbers, *pick)),
            Said::Cancel(pick) => {
                let mut ids: Vec<_> = self.server_requests.keys().cloned().collect();
                ids.sort();
                let id = pick_from(&ids, *pick);
                if let Some(count) = self.server_requests.get_mut(&id) {
                    count.cancelled += 1;
                }
                cancel(&id)
            }
            Said::Progress(pick) => progress(&pick_from(&self.call_numbers, *pick)),
            Said::Notification => tell("log"),
            Said::Broken(pick) => {
                let number = pick_from(&self.call_numbers, *pick);
                format!(r#"{{"jsonrpc":"2.0","id":{number}}}"#)
            }
        };
        json.replacen('{', &at, 1)
    }

    pub(super) fn act(&mut self, act: &Act) {
        match act {
            Act::Open(kind) => _ = self.open(*kind),
            Act::Post(kind, pick) => {
                let words = self.client_words(&Said::Ask(*pick));
                let stream = self.open(*kind);
                self.client(stream, vec![words]);
            }
            Act::Client(stream, said) => {
                let stream = u64::from(*stream) % (self.streams.len() as u64 + 2);
                let words = said.iter().map(|said| self.client_words(said)).collect();
                self.client(stream, words);
            }
            Act::ClientOversized(pick, request) => self.client_oversized(*pick, *request),
            Act::Server(said) => {
                let words: Vec<_> = said.iter().map(|said| self.server_words(said)).collect();
                self.server(&words);
            }
            Act::ServerOversized(pick, request) => {
                let id = if *request { format!("\"s{}\"", pick % 4) } else { pick_from(&self.call_numbers, *pick) };
                if *request {
                    self.server_requests.entry(id.clone()).or_default().asked += 1;
                }
                let id = Id::from_raw(id.as_bytes());
                self.apply(Event::ServerLost {
                    link: LINK,
                    message: LostMessage { id, request: *request, size: 1, why: crate::frame::Lost::Oversized },
                });
            }
            Act::Lose(pick) => {
                // Mostly one of the newest, and sometimes one that was replaced long ago.
                let back = usize::from(*pick) % self.attachments.len().min(6);
                let (stream, attachment) = self.attachments[self.attachments.len() - 1 - back];
                self.lose(stream, attachment);
            }
            Act::Resume(pick, after) => self.resume(*pick, *after),
            Act::Pass(millis) => self.core.now += Duration::from_millis(u64::from(*millis)),
            Act::Tick => self.apply(Event::Tick),
            Act::InputEnded => self.apply(Event::InputEnded { client: ClientId::FIRST }),
            Act::Drain => self.apply(Event::Drain),
            Act::End => self.apply(Event::End(EndReason::Deleted)),
            Act::LinkClosed => self.apply(Event::LinkClosed { link: LINK, exit: exited() }),
        }
    }

    fn client_oversized(&mut self, pick: u8, request: bool) {
        let stream = u64::from(pick) % (self.streams.len() as u64 + 1);
        let id = if request { self.fresh_id(255) } else { pick_from(&self.server_request_numbers, pick) };
        if request {
            let count = self.calls.entry(id.clone()).or_default();
            count.asked += usize::from(self.core.state.client().outbox.knows(StreamId(stream)));
            count.lost = true;
        }
        let id = Id::from_raw(id.as_bytes());
        self.apply(Event::ClientLost {
            client: ClientId::FIRST,
            stream: StreamId(stream),
            message: LostMessage { id, request, size: 1, why: crate::frame::Lost::Oversized },
        });
    }

    fn resume(&mut self, pick: u8, after: u8) {
        let stream = 1 + u64::from(pick) % self.streams.len() as u64;
        let seen = &self.streams[&stream];
        if seen.kind == Some(StreamKind::Duplex) {
            return;
        }
        let claimed = match after {
            0..10 => seen.newest,
            10..15 => u64::from(after),
            15..17 => u64::MAX,
            _ => 0,
        };
        self.client_lied |= claimed != seen.newest;
        if !self.core.state.client().outbox.knows(StreamId(stream)) {
            // A stream that was forgotten goes on as a GET stream.
            self.streams.entry(stream).or_default().kind = Some(StreamKind::Get);
        }
        self.attach(stream, StreamKind::Get, Some(claimed));
    }
}
