//! Every order in which readers, writers and the link can do their steps, against the real shelf.
//!
//! Whatever is done to a value here is done in one step, under one lock, and so is what Redis does; between two steps
//! anybody may come first. Only for whoever keeps a value, and takes no lock, it is two: it is taken away, and its counter
//! moves on. The rules of Redis are those of its scripts, which have tests of their own.

use super::{race::entry, *};

/// Somebody who does his steps one after the other.
#[derive(Clone, Copy, Debug)]
enum Actor {
    /// Reads in this process, by way of Redis.
    Reader,
    /// The same, straight from the source.
    Straight,
    /// Reads in another process, by way of Redis.
    ReaderElsewhere,
    /// Changes the source in this process, and says so.
    Writer,
    /// The same in another process.
    WriterElsewhere,
    /// Asks the source whether it still has what is here.
    Confirmer,
    /// Keeps what is here.
    CopyKeeper,
    /// Hands in what it has read from the source.
    Publisher,
    /// Breaks, and comes back.
    Link,
}

impl Actor {
    const fn steps(self) -> usize {
        match self {
            Self::Reader | Self::Writer => 5,
            Self::Straight
            | Self::ReaderElsewhere
            | Self::WriterElsewhere
            | Self::Confirmer
            | Self::Publisher => 3,
            Self::CopyKeeper | Self::Link => 2,
        }
    }
}

/// What keeps old values from being served; each may be left out, to show that the test notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    Poison,
    LookAfterRedis,
    Life,
    Token,
    OnlyReplaces,
    SameVersion,
    Turn,
    TurnLast,
}

/// What an actor remembers between two steps.
#[derive(Default)]
struct Memory {
    flight: Option<Arc<Flight<u64>>>,
    number: u64,
    life: u64,
    asked: usize,
    is_told: bool,
    is_outdated: bool,
    entry: Option<Arc<Entry<u64>>>,
    turn: Option<Turn>,
}

/// One key, everywhere.
struct World<'a> {
    shelf: &'a Shelf<u64>,
    name: Name,
    /// What somebody here keeps.
    kept: Option<Kept<u64>>,
    without: Option<Guard>,
    source: u64,
    /// What the source had after each step so far.
    history: Vec<u64>,
    /// What Redis has: a value, or whoever may fill it in.
    value: Option<u64>,
    lease: Option<usize>,
    floor: u64,
    /// What Redis has told this process of, and it has not heard yet.
    pushes: usize,
    is_linked: bool,
    life: u64,
    /// Whoever reads from now on gets nothing older: that was acknowledged, or heard of, here.
    owed: u64,
    /// The same if it was known that it would be heard of.
    owed_if_told: u64,
}

impl World<'_> {
    fn step(&mut self, who: usize, actor: Actor, step: usize, memory: &mut Memory) {
        match actor {
            Actor::Reader => self.read(who, step, memory),
            Actor::Straight => self.read_straight(step, memory),
            Actor::ReaderElsewhere => match step {
                0 => self.find(who, memory),
                1 if !memory.is_told => memory.number = self.source,
                2 if !memory.is_told => _ = self.fill(who, memory.number),
                _ => {}
            },
            Actor::Writer => self.write(step, memory),
            Actor::WriterElsewhere => self.write_elsewhere(step, memory),
            Actor::Confirmer => self.confirm(step, memory),
            Actor::CopyKeeper => match (step, memory.turn) {
                (1, Some(turn)) => self.kept = self.shelf.keep_since(turn, &self.name),
                _ => memory.turn = Some(self.shelf.turn(&self.name)),
            },
            Actor::Publisher => self.publish(step, memory),
            Actor::Link => self.break_or_return(step),
        }
    }

    fn board(&self, memory: &mut Memory, is_straight: bool) {
        if self.served().is_some() {
            return;
        }
        let plan = Plan { begun: Duration::ZERO, life: self.life, is_straight, is_alone: false };
        let suits = |flight: &Flight<u64>| flight.plan.is_straight >= is_straight;
        if let Boarding::Pilot(flight) = self.shelf.board(&self.name, plan, suits) {
            memory.flight = Some(flight);
        }
    }

    fn read(&mut self, who: usize, step: usize, memory: &mut Memory) {
        if step == 0 {
            return self.board(memory, false);
        }
        let Some(flight) = memory.flight.clone() else { return };
        match step {
            1 if self.is_linked => self.find(who, memory),
            2 if !memory.is_told => memory.number = self.source,
            3 if !memory.is_told && !self.shelf.is_poisoned(&flight) => {
                memory.is_told = self.fill(who, memory.number);
                memory.is_outdated = !memory.is_told && self.is_linked;
            }
            4 => self.land(&flight, memory),
            _ => {}
        }
    }

    fn read_straight(&mut self, step: usize, memory: &mut Memory) {
        match (step, memory.flight.clone()) {
            (0, _) => self.board(memory, true),
            (1, Some(_)) => memory.number = self.source,
            (2, Some(flight)) => self.land(&flight, memory),
            _ => {}
        }
    }

    fn land(&self, flight: &Arc<Flight<u64>>, memory: &Memory) {
        let life = flight.plan.life;
        let Memory { number, is_told, is_outdated, .. } = *memory;
        let entry = Entry { life, is_told, is_outdated, ..entry(number) };
        self.shelf.land(&self.name, flight, Ok(Arc::new(entry)));
    }

    fn write(&mut self, step: usize, memory: &mut Memory) {
        match step {
            0 => memory.number = self.change(),
            1 => self.shelf.invalidate(&self.name),
            2 => self.invalidate(memory.number),
            // Whoever keeps something may come in between.
            3 => self.half_of_invalidating(self.without != Some(Guard::TurnLast)),
            _ => {
                self.half_of_invalidating(self.without == Some(Guard::TurnLast));
                self.owed = self.owed.max(memory.number);
            }
        }
    }

    fn half_of_invalidating(&self, is_first: bool) {
        if self.without == Some(Guard::LookAfterRedis) {
            return;
        }
        if is_first {
            self.shelf.take_away(&self.name);
        } else {
            self.shelf.next_turn(&self.name);
        }
    }

    fn write_elsewhere(&mut self, step: usize, memory: &mut Memory) {
        match step {
            0 => memory.number = self.change(),
            1 => self.invalidate(memory.number),
            // What Redis has told is heard.
            _ if self.pushes > 0 => {
                self.pushes = 0;
                self.shelf.invalidate(&self.name);
                self.owed = self.owed.max(self.floor);
            }
            _ => {}
        }
    }

    fn confirm(&self, step: usize, memory: &mut Memory) {
        match step {
            0 => memory.entry = self.shelf.get(&self.name),
            1 => (memory.number, memory.asked) = (self.source, self.history.len()),
            _ => {
                let Some(known) = memory.entry.as_ref() else { return };
                let since = Duration::from_secs(memory.asked as u64);
                if self.without == Some(Guard::SameVersion) || known.version == memory.number {
                    known.confirm(since, Timestamp::default());
                }
            }
        }
    }

    fn publish(&mut self, step: usize, memory: &mut Memory) {
        match step {
            0 => memory.number = self.source,
            1 => {
                memory.life = self.life;
                self.replace(Entry { life: self.life, is_told: false, ..entry(memory.number) });
            }
            _ if self.value.is_some_and(|value| value <= memory.number) => {
                self.value = Some(memory.number);
                self.replace(Entry { life: memory.life, ..entry(memory.number) });
            }
            _ => {}
        }
    }

    fn replace(&self, entry: Entry<u64>) {
        if self.without == Some(Guard::OnlyReplaces) && self.shelf.get(&self.name).is_none() {
            // As a load that nobody could mark.
            let plan = Plan { begun: Duration::ZERO, life: 0, is_straight: true, is_alone: true };
            if let Boarding::Pilot(flight) = self.shelf.board(&self.name, plan, |_| false) {
                self.shelf.land(&self.name, &flight, Ok(Arc::new(entry)));
            }
            return;
        }
        self.shelf.replace(&self.name, &Arc::new(entry));
    }

    const fn break_or_return(&mut self, step: usize) {
        if step == 0 {
            (self.is_linked, self.pushes) = (false, 0);
        } else {
            (self.is_linked, self.life) = (true, self.life + 1);
            self.owed_if_told = self.floor;
        }
    }

    const fn change(&mut self) -> u64 {
        self.source += 1;
        self.source
    }

    /// As `get_or_lease` does.
    fn find(&mut self, who: usize, memory: &mut Memory) {
        match self.value {
            Some(value) => (memory.number, memory.is_told) = (value, true),
            None if self.lease.is_none() => self.lease = Some(who),
            None => {}
        }
    }

    /// As `fill` does.
    fn fill(&mut self, who: usize, number: u64) -> bool {
        let may = self.lease == Some(who) || self.without == Some(Guard::Token);
        let is_filled = may && (number >= self.floor || self.without == Some(Guard::Token));
        if is_filled {
            (self.value, self.lease) = (Some(number), None);
        }
        is_filled
    }

    /// As `invalidate` does. Redis tells of it.
    fn invalidate(&mut self, number: u64) {
        (self.value, self.lease) = (None, None);
        self.floor = self.floor.max(number);
        self.pushes += usize::from(self.is_linked);
    }

    /// What a reader would be served without a word.
    fn served(&self) -> Option<Arc<Entry<u64>>> {
        let ignores_life = self.without == Some(Guard::Life);
        self.shelf.get(&self.name).filter(|entry| ignores_life || entry.life == self.life)
    }

    /// What somebody looks at who keeps it.
    fn kept_entry(&self) -> Option<&Entry<u64>> {
        let has = |kept: &&Kept<u64>| self.without == Some(Guard::Turn) || self.shelf.has(kept);
        self.kept.as_ref().filter(has).map(|kept| &*kept.entry)
    }

    fn is_honest(&self) -> bool {
        let is_confirmed = |entry: &Entry<u64>| {
            let (age, _) = entry.confirmed_age(Duration::MAX);
            let asked = (Duration::MAX - age).as_secs();
            let before = usize::try_from(asked).unwrap().checked_sub(1);
            entry.version >= before.map_or(0, |before| self.history[before])
        };
        self.shelf.get(&self.name).is_none_or(|entry| is_confirmed(&entry))
            && self
                .kept_entry()
                .is_none_or(|entry| is_confirmed(entry) && entry.version >= self.owed)
            && self.served().is_none_or(|entry| {
                entry.version >= self.owed && (!entry.is_told || entry.version >= self.owed_if_told)
            })
    }
}

/// Calls with every order of so many steps of each.
fn each_order(left: &mut [usize], order: &mut Vec<usize>, call: &mut impl FnMut(&[usize])) {
    if left.iter().all(|steps| *steps == 0) {
        return call(order);
    }
    for who in 0..left.len() {
        if left[who] > 0 {
            left[who] -= 1;
            order.push(who);
            each_order(left, order, call);
            order.pop();
            left[who] += 1;
        }
    }
}

/// How many orders there are, and the first of them in which somebody would be served what is too old.
fn search(actors: &[Actor], is_known: bool, without: Option<Guard>) -> (usize, Option<Vec<Actor>>) {
    let shelf = if without == Some(Guard::Poison) {
        Shelf::without_poison(1 << 30, SOON)
    } else {
        Shelf::new(1 << 30, SOON)
    };
    let (mut orders, mut broken) = (0_usize, None);
    let mut left: Vec<_> = actors.iter().map(|actor| actor.steps()).collect();
    each_order(&mut left, &mut Vec::new(), &mut |order| {
        orders += 1;
        let name = Name::from(&orders.to_be_bytes()[..]);
        if !is_honest(&shelf, name, actors, order, is_known, without) && broken.is_none() {
            broken = Some(order.iter().map(|who| actors[*who]).collect());
        }
    });
    (orders, broken)
}

fn is_honest(
    shelf: &Shelf<u64>,
    name: Name,
    actors: &[Actor],
    order: &[usize],
    is_known: bool,
    without: Option<Guard>,
) -> bool {
    let mut world = World {
        shelf,
        name,
        kept: None,
        without,
        source: 1,
        history: Vec::new(),
        value: is_known.then_some(1),
        lease: None,
        floor: 0,
        pushes: 0,
        is_linked: true,
        life: 0,
        owed: 0,
        owed_if_told: 0,
    };
    if is_known {
        let (mut first, plan) = (Memory { number: 1, is_told: true, ..Memory::default() }, false);
        world.board(&mut first, plan);
        let flight = first.flight.clone().unwrap();
        world.land(&flight, &first);
    }
    let mut memories: Vec<_> = actors.iter().map(|_| (0, Memory::default())).collect();
    order.iter().all(|who| {
        let (step, memory) = &mut memories[*who];
        world.step(*who, actors[*who], *step, memory);
        *step += 1;
        world.history.push(world.source);
        world.is_honest()
    })
}

/// What is played, whether there are copies at first, and what it cannot do without.
const PLAYS: [(&[Actor], bool, &[Guard]); 9] = {
    use Actor::{
        Confirmer, CopyKeeper, Link, Publisher, Reader, ReaderElsewhere, Straight, Writer,
        WriterElsewhere,
    };
    [
        (&[Reader, Writer], false, &[Guard::Poison]),
        (&[Reader, Writer, Confirmer], true, &[Guard::LookAfterRedis]),
        (&[Reader, Straight, Writer], false, &[Guard::Poison]),
        (&[Reader, ReaderElsewhere, WriterElsewhere], false, &[Guard::Poison, Guard::Token]),
        (&[Reader, WriterElsewhere, Link], false, &[Guard::Life]),
        (
            &[Confirmer, Publisher, WriterElsewhere],
            true,
            &[Guard::OnlyReplaces, Guard::SameVersion],
        ),
        (&[Confirmer, WriterElsewhere, Link, Publisher], true, &[Guard::Life, Guard::SameVersion]),
        (&[CopyKeeper, Writer, Reader], true, &[Guard::Turn, Guard::TurnLast]),
        (&[CopyKeeper, WriterElsewhere, Link, Publisher], true, &[Guard::Turn, Guard::Life]),
    ]
};

#[test]
fn in_no_order_is_anybody_served_what_is_too_old() {
    let mut all = 0;
    for (actors, is_known, _) in PLAYS {
        let (orders, broken) = search(actors, is_known, None);
        assert!(broken.is_none(), "{broken:?}");
        all += orders;
    }
    assert!(all > 50_000, "{all}");
}

#[test]
fn without_any_one_guard_somebody_is_served_what_is_too_old() {
    for (actors, is_known, guards) in PLAYS {
        for guard in guards {
            let (_, broken) = search(actors, is_known, Some(*guard));
            assert!(broken.is_some(), "{actors:?} need no {guard:?}");
        }
    }
}
