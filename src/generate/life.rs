//! The **life** of generated hunts: created, players register, and then a race in rounds: each player is handed
//! the round's clue and solves it; when all have, the next clue goes out.
//!
//! Invariant: of one hunt, no player acts before registering, and none solves a clue that was not handed out.

use super::text::{Dates, push_decimal, push_id, push_number, push_padded, scramble};

pub const TYPES: [&str; 4] = ["hunt.created", "user.registered", "clue.handed_out", "clue.solved"];

/// What a hunt's next event says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    Created,
    Registered { player: u32 },
    HandedOut { player: u32, clue: u32 },
    Solved { player: u32, clue: u32 },
}

/// One hunt's progress; small, as there may be millions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    created: bool,
    /// How many of its players have registered, at most 64.
    registered: u8,
    round: u16,
    /// A bit a player: has this round's clue, has solved it.
    handed: u64,
    solved: u64,
}

impl Life {
    /// Goes one step on. `players` is the platform's number of players, some of whom are this hunt's.
    pub fn step(&mut self, hunt: u32, players: u32, rng: &mut fastrand::Rng) -> Step {
        if !self.created {
            self.created = true;
            return Step::Created;
        }
        let expected = 2 + (scramble(u64::from(hunt)) % 62) as u8;
        let player = |index: u8| (scramble(u64::from(hunt) << 8 | u64::from(index)) % u64::from(players)) as u32;
        if self.registered == 0 || (self.registered < expected && rng.u8(..) < 64) {
            self.registered += 1;
            return Step::Registered { player: player(self.registered - 1) };
        }
        let all = u64::MAX >> (64 - self.registered);
        if self.solved & all == all {
            self.round = self.round.wrapping_add(1);
            (self.handed, self.solved) = (0, 0);
        }
        // Anyone still at work on this round; from a random player on, so that the race has no fixed order.
        let from = rng.u8(0..self.registered);
        let at_work = all & !self.solved;
        let after = at_work >> from;
        let index = if after != 0 { from + after.trailing_zeros() as u8 } else { at_work.trailing_zeros() as u8 };
        let clue = (scramble(u64::from(hunt)) as u32).wrapping_add(u32::from(self.round)) % 1000;
        if self.handed & (1 << index) == 0 {
            self.handed |= 1 << index;
            Step::HandedOut { player: player(index), clue }
        } else {
            self.solved |= 1 << index;
            Step::Solved { player: player(index), clue }
        }
    }
}

/// Where hunts are held: latitude and longitude in 1/100,000 degree.
const CITIES: [(i64, i64); 12] = [
    (4_820_817, 1_637_382),
    (5_252_000, 1_340_500),
    (4_885_660, 235_220),
    (5_150_740, -12_780),
    (4_071_280, -7_400_600),
    (3_568_950, 13_969_170),
    (-3_386_880, 15_120_930),
    (-2_355_050, -4_663_330),
    (137_500, 10_381_980),
    (4_150_000, -8_110_000),
    (5_933_260, 1_806_490),
    (-129_210, 3_682_190),
];

/// What the parts of an event are written from.
pub struct Facts {
    pub seed: u64,
    /// The event's number in the stream, from which its id comes.
    pub number: u64,
    pub hunt: u32,
    pub time_ms: i64,
}

/// Where a spoiled event differs from a sound one: the JSON that stands in place of a member, or nothing at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spoil<'a> {
    pub id: Option<&'a [u8]>,
    /// Empty: the member is left out.
    pub event_type: Option<&'a [u8]>,
    pub time: Option<&'a [u8]>,
}

/// Writes the event as CloudEvents JSON.
pub fn write(into: &mut Vec<u8>, facts: &Facts, step: Step, spoil: Spoil<'_>, dates: &mut Dates, rng: &mut fastrand::Rng) {
    into.extend_from_slice(br#"{"specversion":"1.0","id":"#);
    match spoil.id {
        Some(id) => into.extend_from_slice(id),
        None => {
            into.push(b'"');
            push_id(into, facts.time_ms, facts.seed, facts.number);
            into.push(b'"');
        }
    }
    into.extend_from_slice(br#","source":"/apps/"#);
    into.extend_from_slice(if facts.number.is_multiple_of(3) { b"ios" } else { b"android" });
    into.push(b'"');
    let number = match step {
        Step::Created => 0,
        Step::Registered { .. } => 1,
        Step::HandedOut { .. } => 2,
        Step::Solved { .. } => 3,
    };
    match spoil.event_type {
        Some(b"") => {}
        Some(json) => {
            into.extend_from_slice(br#","type":"#);
            into.extend_from_slice(json);
        }
        None => {
            into.extend_from_slice(br#","type":""#);
            into.extend_from_slice(TYPES[number].as_bytes());
            into.push(b'"');
        }
    }
    into.extend_from_slice(br#","time":"#);
    match spoil.time {
        Some(json) => into.extend_from_slice(json),
        None => {
            into.push(b'"');
            dates.push(into, facts.time_ms);
            into.push(b'"');
        }
    }
    into.extend_from_slice(br#","data":{"#);
    match step {
        Step::Created => {
            into.extend_from_slice(br#""name":"Treasure hunt "#);
            push_number(into, u64::from(facts.hunt));
            into.extend_from_slice(br#"","#);
        }
        Step::Registered { player } => write_player(into, player),
        Step::HandedOut { player, clue } | Step::Solved { player, clue } => {
            write_player(into, player);
            into.extend_from_slice(br#""clue_id":"c-"#);
            push_padded(into, u64::from(clue), 4);
            into.extend_from_slice(br#"","#);
        }
    }
    if let Step::Solved { .. } = step {
        // Most clues take a minute or two, a few very long; who is quick gets more.
        let seconds = (-(1.0 - rng.f64()).ln() * 90.0 + 3.0).min(3600.0);
        let points = 1 + (1999.0 * (-seconds / 120.0).exp()) as u64;
        into.extend_from_slice(br#""points":"#);
        push_number(into, points);
        into.extend_from_slice(br#","seconds":"#);
        push_decimal(into, (seconds * 100.0) as i64, 2);
        into.push(b',');
    }
    let (lat, lon) = CITIES[(scramble(u64::from(facts.hunt)) % CITIES.len() as u64) as usize];
    let about = rng.u64(..);
    into.extend_from_slice(br#""lat":"#);
    push_decimal(into, lat + (about % 4000) as i64 - 2000, 5);
    into.extend_from_slice(br#","lon":"#);
    push_decimal(into, lon + (about >> 32) as i64 % 4000 - 2000, 5);
    into.extend_from_slice(b"}}");
}

fn write_player(into: &mut Vec<u8>, player: u32) {
    into.extend_from_slice(br#""player_id":"p-"#);
    push_padded(into, u64::from(player), 7);
    into.extend_from_slice(br#"","#);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_hunt_lives_in_order() {
        for hunt in 0..50 {
            let mut life = Life::default();
            let mut rng = fastrand::Rng::with_seed(u64::from(hunt));
            let step = |life: &mut Life, rng: &mut fastrand::Rng| life.step(hunt, 1_000_000, rng);
            assert_eq!(step(&mut life, &mut rng), Step::Created);
            let (mut registered, mut handed, mut solved) = (HashSet::new(), HashSet::new(), HashSet::new());
            for _ in 0..2000 {
                match step(&mut life, &mut rng) {
                    Step::Created => panic!("created twice"),
                    Step::Registered { player } => assert!(registered.insert(player)),
                    Step::HandedOut { player, clue } => assert!(registered.contains(&player) && handed.insert((player, clue))),
                    Step::Solved { player, clue } => assert!(handed.contains(&(player, clue)) && solved.insert((player, clue))),
                }
            }
            assert!(registered.len() >= 2 && solved.len() > 500, "hunt {hunt}: {} solved", solved.len());
        }
    }
}
