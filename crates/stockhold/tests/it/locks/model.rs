//! All that can happen to two clients and one lock, looked at exhaustively: one of them may be slow at any moment,
//! Redis loses its data once, the database takes over once, and a row that was written may be seen much later.
//!
//! A search of our own over all states that there are: a model checker for distributed systems brings twenty packages and a
//! web server with it.

use std::collections::{HashSet, VecDeque};

type Client = usize;
type Fence = (u8, u8);

/// Who grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Grantor {
    Redis,
    Database,
}

/// A lease, as whoever granted it remembers it.
type Lease = Option<(Client, Fence)>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    // The row.
    grantor: Grantor,
    epoch: u8,
    is_open: bool,
    /// The next row: written, and seen by nobody yet.
    unseen: Option<(Grantor, u8)>,
    /// No permit or lease of an epoch before this one is alive, as far as whoever has waited for that knows.
    over_before: u8,
    // Redis: the epoch that it was told of, its last number, and its lease.
    redis: Option<(u8, u8, Lease)>,
    // The database: its last number and its lease.
    database: (u8, Lease),
    /// What each client has read of the row: it counts for a while.
    permit: [Option<(Grantor, u8)>; 2],
    /// The lease that each client believes to have.
    belief: [Option<Fence>; 2],
    /// Where the work lands: the highest fence that has written, and who has broken in behind it.
    written: Fence,
    is_overwritten: bool,
    // What may still happen.
    losses: u8,
    switches: u8,
    openings: u8,
}

/// What the protocol is made of; each part can be left out.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    /// The work refuses a lower fence than it has seen.
    checks_fence: bool,
    /// Before the first grant of an epoch all permits and leases of earlier ones have ended.
    is_strict: bool,
    /// They are waited for from when the row was opened, which was seen by then.
    waits_from_opening: bool,
    /// A Redis without its rule grants nothing.
    refuses_when_empty: bool,
    /// Leases end for their holders before they do for others.
    has_sound_clocks: bool,
}

const FENCED: Protocol = Protocol {
    checks_fence: true,
    is_strict: false,
    waits_from_opening: true,
    refuses_when_empty: true,
    has_sound_clocks: false,
};

const STRICT: Protocol =
    Protocol { checks_fence: false, is_strict: true, has_sound_clocks: true, ..FENCED };

impl State {
    fn begin() -> Self {
        Self {
            grantor: Grantor::Redis,
            epoch: 1,
            is_open: true,
            unseen: None,
            over_before: 1,
            redis: Some((1, 0, None)),
            database: (0, None),
            permit: [None; 2],
            belief: [None; 2],
            written: (0, 0),
            is_overwritten: false,
            losses: 1,
            switches: 1,
            openings: 2,
        }
    }

    /// All that can happen next.
    fn next(&self, protocol: Protocol) -> Vec<Self> {
        let mut next = Vec::new();
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut state = self.clone();
            change(&mut state);
            next.push(state);
        };
        for client in 0..2 {
            if self.is_open {
                add(&|state| state.permit[client] = Some((state.grantor, state.epoch)));
            }
            if self.permit[client].is_some() {
                add(&|state| state.permit[client] = None);
            }
            if self.belief[client].is_some() {
                add(&|state| state.write(client, protocol));
                add(&|state| state.release(client));
                add(&|state| state.belief[client] = None);
            }
        }
        let idle = (0..2).filter(|client| self.belief[*client].is_none());
        next.extend(idle.filter_map(|client| self.acquired(client, protocol)));
        self.mishaps(protocol, &mut next);
        self.rules(protocol, &mut next);
        next
    }

    fn mishaps(&self, protocol: Protocol, next: &mut Vec<Self>) {
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut state = self.clone();
            change(&mut state);
            next.push(state);
        };
        let lease_of = |lease: Lease| {
            // A holder with a sound clock has let go by then.
            lease.is_some_and(|(client, fence)| {
                !protocol.has_sound_clocks || self.belief[client] != Some(fence)
            })
        };
        if self.redis.is_some_and(|(.., lease)| lease_of(lease)) {
            add(&|state| state.redis = state.redis.map(|(epoch, last, _)| (epoch, last, None)));
        }
        if lease_of(self.database.1) {
            add(&|state| state.database.1 = None);
        }
        if self.losses > 0 {
            add(&|state| {
                state.losses -= 1;
                state.redis = None;
            });
        }
    }

    /// Somebody finds that Redis is away, or knows of no epoch, and makes another one: first the row; when that is seen,
    /// Redis is told, and the row is opened.
    fn rules(&self, protocol: Protocol, next: &mut Vec<Self>) {
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut state = self.clone();
            change(&mut state);
            next.push(state);
        };
        let may_be_replaced = self.unseen.is_none() && self.grantor == Grantor::Redis;
        if may_be_replaced && self.switches > 0 {
            add(&|state| {
                state.switches -= 1;
                state.unseen = Some((Grantor::Database, state.epoch + 1));
            });
        }
        if may_be_replaced && self.redis.is_none() && self.openings > 0 {
            add(&|state| {
                state.openings -= 1;
                state.unseen = Some((Grantor::Redis, state.epoch + 1));
            });
        }
        if let Some((grantor, epoch)) = self.unseen {
            add(&|state| {
                (state.grantor, state.epoch, state.is_open) = (grantor, epoch, false);
                state.unseen = None;
            });
        }
        if !self.is_open {
            add(&|state| {
                if state.grantor == Grantor::Redis {
                    state.redis = Some((state.epoch, 0, None));
                }
                state.is_open = true;
            });
        }
        let newest = self.unseen.map_or(self.epoch, |(_, epoch)| epoch);
        let is_counted = !protocol.waits_from_opening || self.unseen.is_none() && self.is_open;
        if self.over_before < newest && is_counted && !self.has_earlier(newest) {
            add(&|state| state.over_before = newest);
        }
    }

    /// Whether anybody goes by an earlier row, or believes to have a lease of one.
    fn has_earlier(&self, epoch: u8) -> bool {
        let permits = self.permit.iter().flatten().any(|(_, other)| *other < epoch);
        permits || self.belief.iter().flatten().any(|(other, _)| *other < epoch)
    }

    /// The client is granted the lock by whoever its permit says, if nobody has it there.
    fn acquired(&self, client: Client, protocol: Protocol) -> Option<Self> {
        let (grantor, epoch) = self.permit[client]?;
        if protocol.is_strict && self.over_before < epoch {
            return None;
        }
        let mut state = self.clone();
        let fence = match grantor {
            Grantor::Redis => {
                let known = match self.redis {
                    None if !protocol.refuses_when_empty => Some((epoch, 0, None)),
                    known => known,
                };
                let (told, last, lease) = known?;
                if told != epoch || lease.is_some() {
                    return None;
                }
                let fence = (epoch, last + 1);
                state.redis = Some((told, last + 1, Some((client, fence))));
                fence
            }
            Grantor::Database => {
                // It looks at the row itself.
                let (last, lease) = self.database;
                if !self.is_open
                    || (self.grantor, self.epoch) != (grantor, epoch)
                    || lease.is_some()
                {
                    return None;
                }
                let fence = (epoch, last + 1);
                state.database = (last + 1, Some((client, fence)));
                fence
            }
        };
        state.belief[client] = Some(fence);
        (fence.1 <= 3).then_some(state)
    }

    fn write(&mut self, client: Client, protocol: Protocol) {
        let Some(fence) = self.belief[client] else { return };
        if fence >= self.written {
            self.written = fence;
        } else if !protocol.checks_fence {
            self.is_overwritten = true;
        }
    }

    fn release(&mut self, client: Client) {
        let Some(fence) = self.belief[client].take() else { return };
        let is_it = |lease: &Lease| *lease == Some((client, fence));
        if let Some((.., lease)) = &mut self.redis
            && is_it(lease)
        {
            *lease = None;
        }
        if is_it(&self.database.1) {
            self.database.1 = None;
        }
    }
}

/// The first state in which something is so, and how many there are.
fn search(protocol: Protocol, is_bad: impl Fn(&State) -> bool) -> (Option<State>, usize) {
    let (mut seen, mut queue) = (HashSet::new(), VecDeque::from([State::begin()]));
    while let Some(state) = queue.pop_front() {
        if is_bad(&state) {
            return (Some(state), seen.len());
        }
        for next in state.next(protocol) {
            if seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    (None, seen.len())
}

fn is_overwritten(state: &State) -> bool {
    state.is_overwritten
}

fn both_believe(state: &State) -> bool {
    state.belief.iter().all(Option::is_some)
}

#[test]
fn whatever_happens_nobody_writes_behind_a_later_holder() {
    let (found, states) = search(FENCED, is_overwritten);
    assert!(found.is_none() && states > 1_000, "{states}: {found:?}");
}

#[test]
fn without_the_check_of_the_fence_somebody_does() {
    assert!(search(Protocol { checks_fence: false, ..FENCED }, is_overwritten).0.is_some());
}

#[test]
fn who_waits_for_those_before_is_never_two() {
    let (found, states) = search(STRICT, both_believe);
    assert!(found.is_none() && states > 1_000, "{states}: {found:?}");
}

#[test]
fn who_does_not_wait_or_too_early_or_trusts_an_empty_redis_or_a_bad_clock_may_be() {
    for broken in [
        Protocol { is_strict: false, ..STRICT },
        Protocol { waits_from_opening: false, ..STRICT },
        Protocol { refuses_when_empty: false, ..STRICT },
        Protocol { has_sound_clocks: false, ..STRICT },
    ] {
        assert!(search(broken, both_believe).0.is_some(), "{broken:?}");
    }
}
