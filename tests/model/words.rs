//! Which states are one: an engine becomes words, with time and sequence numbers counted from now.
//!
//! The engine knows nothing of this. A serializer meets its fields by name, so what a state leaves out stands here,
//! with the reason why it cannot change what the model looks at.

use crate::world::HOSTS;
use haclusterd::engine::time::Instant;
use serde::ser::{self, Serialize};
use std::fmt::Error;
use std::path::Path;

/// What is longer past is past: longer than a lease, a peer's silence, and the round trip whose triple is a second.
const PAST: u64 = 400_000;
/// A probe of the wire counts for four seconds.
const GLANCE: u64 = 4_000_000;

/// A term so far behind the highest is old, whatever it is.
const OLD_TERM: u64 = 8;

/// Fields that tell no two states apart.
const LEFT_OUT: [(&str, &[&str]); 9] = [
    // The same in all states of a run.
    ("Voter", &["timers", "incarnation"]),
    ("Check", &["config"]),
    ("Vip", &["refresh", "fenced"]),
    // What `status` shows, and what the two-node mode alone asks for.
    (
        "Engine",
        &[
            "flaps",
            "remembered",
            "config",
            "started",
            "events",
            "voters",
            "published",
            "next_housekeeping",
            // All peers vote.
            "next_idle_advert",
            // Made from the rest, or made anew when `moved` or `stale` says so.
            "view",
            "well",
            "bids",
            "soonest",
            "fenced",
            "gateway_at",
            "gateway_probed",
        ],
    ),
    ("VipState", &["config", "interface", "owner", "owner_since", "until", "deadline", "lapse"]),
    ("Peer", &["record", "since", "was_alive"]),
    ("Owner", &["since"]),
    // How often an address was announced.
    ("Held", &["since", "announcing", "asking"]),
    // When an advert was sent matters only to its answer: the packet says it.
    ("Lease", &["sent"]),
];
/// Numbers of one node's adverts.
const ADVERTS: [&str; 4] = ["seq", "last_seq", "answered", "omitted"];
/// Numbers of one voter's sessions.
const SESSIONS: [&str; 3] = ["id", "next_session", "session"];

/// Whose numbers stand in what is told: who sent the adverts, and who gave the sessions.
#[derive(Clone, Copy, Debug)]
pub struct Whose {
    pub adverts: usize,
    pub sessions: usize,
}

#[derive(Debug)]
pub struct Words {
    now: Instant,
    words: Vec<u64>,
    /// Numbers of which only the order counts, by series: where each stands in `words`.
    numbers: [Vec<(u64, usize)>; 2 * HOSTS],
    terms: Vec<(u64, usize)>,
    whose: Whose,
    /// What the values of the map at hand number, their keys have numbered.
    by_key: Option<Meaning>,
    meaning: Meaning,
    node: u64,
    holder: Option<u64>,
}

/// What the next number is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meaning {
    Plain,
    Time,
    /// Only whether a probe still counts.
    Glance,
    /// Three are as good as many.
    Few,
    Advert,
    Session,
    Term,
    Node,
}

impl Words {
    pub fn new(now: Instant) -> Words {
        Words {
            now,
            words: Vec::with_capacity(512),
            numbers: Default::default(),
            terms: Vec::with_capacity(32),
            whose: Whose { adverts: 0, sessions: 0 },
            by_key: None,
            meaning: Meaning::Plain,
            node: 0,
            holder: None,
        }
    }

    pub fn add(&mut self, whose: Whose, value: &impl Serialize) {
        self.whose = whose;
        value.serialize(&mut *self).unwrap();
    }

    pub fn finish(mut self) -> Vec<u64> {
        for series in &mut self.numbers {
            series.sort_unstable_by(|a, b| b.cmp(a));
            let ranks = series.chunk_by(|a, b| a.0 == b.0).zip(1..);
            ranks.for_each(|(same, rank)| same.iter().for_each(|(_, at)| self.words[*at] = rank));
        }
        let highest = self.terms.iter().map(|(term, _)| *term).max().unwrap_or(0);
        for (term, at) in self.terms {
            self.words[at] = (highest - term).min(OLD_TERM);
        }
        self.words
    }

    fn number(&mut self, number: u64) {
        let ago = self.now.micros().saturating_sub(number);
        let word = match self.meaning {
            Meaning::Plain => number,
            Meaning::Time if ago == 0 => number - self.now.micros(),
            Meaning::Time => u64::MAX - ago.min(PAST),
            Meaning::Glance => u64::from(ago >= 20_000) + u64::from(ago >= GLANCE),
            Meaning::Few => number.min(3),
            Meaning::Advert => self.later(self.whose.adverts, number),
            Meaning::Session if number == 0 => 0, // none
            Meaning::Session => self.later(HOSTS + self.whose.sessions, number),
            Meaning::Term => {
                self.terms.push((number, self.words.len()));
                0
            }
            Meaning::Node => {
                self.node = number;
                return;
            }
        };
        self.words.push(word);
    }

    fn later(&mut self, series: usize, number: u64) -> u64 {
        self.numbers[series].push((number, self.words.len()));
        0
    }

    fn field(&mut self, of: &str, name: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        if LEFT_OUT.iter().find(|(from, _)| *from == of).is_some_and(|(_, names)| names.contains(&name)) {
            return Ok(());
        }
        let (meaning, by_key) = (self.meaning, self.by_key);
        self.by_key = match (of, name) {
            ("Voter", "sessions") | ("Peers", "peers") => Some(Meaning::Advert),
            ("Lease", "voters") => Some(Meaning::Session),
            _ => None,
        };
        self.meaning = match (of, name) {
            ("Claims", "unanswered") | ("Seat", "failures") => Meaning::Few,
            ("Claims", "probed_at") => Meaning::Glance,
            _ if ADVERTS.contains(&name) => Meaning::Advert,
            _ if SESSIONS.contains(&name) => Meaning::Session,
            _ => Meaning::Plain,
        };
        self.node = 0;
        value.serialize(&mut *self)?;
        if (of, name) == ("Seat", "holder") {
            self.holder = Some(self.node).filter(|node| *node > 0);
        }
        (self.meaning, self.by_key) = (meaning, by_key);
        Ok(())
    }
}

/// Whom a voter has granted the VIP, by its number from 1.
pub fn holder(engine: &impl Serialize) -> Option<u64> {
    let mut words = Words::new(Instant::default());
    words.add(Whose { adverts: 0, sessions: 0 }, engine);
    words.holder
}

fn index(node: u64) -> usize {
    usize::try_from(node - 1).unwrap()
}

#[derive(Debug)]
pub struct Fields<'a> {
    words: &'a mut Words,
    of: &'static str,
}

macro_rules! numbers {
    ($($name:ident: $type:ty),*) => {
        $(fn $name(self, v: $type) -> Result<(), Error> {
            self.number(v as u64);
            Ok(())
        })*
    };
}

impl<'a> ser::Serializer for &'a mut Words {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    numbers!(serialize_bool: bool, serialize_char: char, serialize_f32: f32, serialize_f64: f64);
    numbers!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64);
    numbers!(serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);

    fn serialize_u128(self, v: u128) -> Result<(), Error> {
        self.words.extend([(v >> 64) as u64, v as u64]);
        Ok(())
    }

    fn serialize_str(self, v: &str) -> Result<(), Error> {
        self.serialize_bytes(v.as_bytes())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), Error> {
        self.words.push(v.len() as u64);
        self.words.extend(v.iter().map(|byte| u64::from(*byte)));
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.words.push(0);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.words.push(1);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, at: u32, _: &'static str) -> Result<(), Error> {
        self.words.push(at.into());
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let before = self.meaning;
        self.node = 0;
        self.meaning = match name {
            "Instant" if before == Meaning::Glance => Meaning::Glance,
            "Instant" => Meaning::Time,
            "NodeId" => Meaning::Node,
            "Term" => Meaning::Term,
            _ => Meaning::Plain,
        };
        value.serialize(&mut *self)?;
        if name == "NodeId" {
            self.words.push(self.node);
        }
        self.meaning = before;
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        at: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.words.push(at.into());
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self, Error> {
        self.words.push(len.unwrap_or(0) as u64);
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        at: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Error> {
        self.words.push(at.into());
        Ok(self)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self, Error> {
        self.serialize_seq(len)
    }

    fn serialize_struct(self, of: &'static str, _: usize) -> Result<Fields<'a>, Error> {
        Ok(Fields { words: self, of })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        at: u32,
        of: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, Error> {
        self.words.push(at.into());
        Ok(Fields { words: self, of })
    }
}

macro_rules! elements {
    ($($of:ident: $add:ident),*) => {
        $(impl ser::$of for &mut Words {
            type Ok = ();
            type Error = Error;

            fn $add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        })*
    };
}

elements!(SerializeSeq: serialize_element);
elements!(SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field);

impl ser::SerializeTuple for &mut Words {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        match self.meaning == Meaning::Node && self.node > 0 {
            true => Ok(()), // a node's sixteen bytes are all the same here
            false => value.serialize(&mut **self),
        }
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl ser::SerializeMap for &mut Words {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let whose = self.whose;
        match self.by_key {
            Some(Meaning::Advert) => self.whose.adverts = index(self.node),
            Some(_) => self.whose.sessions = index(self.node),
            None => {}
        }
        value.serialize(&mut **self)?;
        self.whose = whose;
        Ok(())
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

macro_rules! fields {
    ($($of:ident),*) => {
        $(impl ser::$of for Fields<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.words.field(self.of, name, value)
            }

            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);

/// A field that was renamed would tell states apart again, and the model would see less of everything else.
#[test]
fn what_is_left_out_is_there() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine");
    let all = texts_under(&dir);
    for (owner, fields) in LEFT_OUT {
        let head = format!(" {owner} {{");
        let bodies = || all.split(&head).skip(1).filter_map(|text| text.split("}").next());
        for field in fields {
            assert!(
                bodies().any(|body| body.contains(&format!(" {field}:"))),
                "{owner} has no field {field}"
            );
        }
    }
}

fn texts_under(dir: &Path) -> String {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths
        .map(|path| if path.is_dir() { texts_under(&path) } else { std::fs::read_to_string(path).unwrap() })
        .collect()
}
