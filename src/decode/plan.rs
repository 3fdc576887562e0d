//! The **plan**: the definitions compiled for one topic, once: pointers become slots, predicates
//! conditions on slots, types the lists of aggregates they concern.
//!
//! A partition's actor hands it whole batches. Invariants: the same record gives the same event,
//! whatever came before; fields have the same numbers for every topic of the same definitions; the
//! usual record is decoded without an allocation.

use super::condition::Condition;
use super::interest::Interests;
use super::judge::{Desk, Memory, Refusal};
use super::scan::Trie;
use super::{Decoded, Event, Field, Use, Verdict};
use crate::definitions::{Aggregate, Definitions, Kind, Place, Pointer};
use crate::record::{Batch, Record, Span};
use crate::time::Micros;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// The definitions compiled for one topic.
#[derive(Debug)]
pub struct Plan {
    pub(super) hunt: Site,
    pub(super) id: Vec<Site>,
    pub(super) event_type: Site,
    /// `None`: the record's timestamp.
    pub(super) time: Option<Site>,
    pub(super) max_bytes: u64,
    pub(super) max_ahead: Option<i64>,
    pub(super) trie: Trie,
    /// What each field is read from and for; their order is that of the aggregates.
    pub(super) fields: Vec<(usize, Use)>,
    field_names: Vec<(Pointer, Use)>,
    pub(super) conditions: Vec<Condition>,
    pub(super) aggregates: Vec<Aggregate>,
    pub(super) asks: Vec<Asks>,
    pub(super) interests: Interests,
    /// Used again from batch to batch.
    memory: Mutex<Memory>,
}

/// A place of the definitions, its pointer a slot.
#[derive(Debug, Clone)]
pub(super) enum Site {
    Key,
    Header(Box<[u8]>),
    Slot(usize),
}

/// What one aggregate asks of an event that its `on` matches.
#[derive(Debug)]
pub(super) struct Asks {
    pub condition: Option<usize>,
    pub fields: Vec<usize>,
}

pub(super) fn hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

impl Plan {
    pub fn new(definitions: &Definitions, topic: &str) -> Self {
        let places = definitions.places(topic);
        let names = |place: &Place| if let Place::Value(pointer) = place { Some(pointer.clone()) } else { None };
        let mut pointers: BTreeSet<Pointer> = [&places.hunt, &places.event_type].into_iter().filter_map(names).collect();
        pointers.extend(places.id.iter().chain(&places.time).filter_map(names));
        let mut field_names: Vec<(Pointer, Use)> = Vec::new();
        for aggregate in &definitions.aggregates {
            for field in reads(&aggregate.kind) {
                if !field_names.contains(&field) {
                    field_names.push(field);
                }
            }
            if let Some(filter) = &aggregate.filter {
                pointers.extend(filter.expression().members().into_iter().cloned());
            }
        }
        pointers.extend(field_names.iter().map(|(pointer, _)| pointer.clone()));
        let trie = Trie::new(&pointers);
        let slot = |pointer: &Pointer| trie.slot(pointer).expect("every pointer of the plan has a slot");
        let site = |place: &Place| match place {
            Place::Key => Site::Key,
            Place::Header(name) => Site::Header(name.as_bytes().into()),
            Place::Value(pointer) => Site::Slot(slot(pointer)),
        };
        let mut conditions = Vec::new();
        let mut asks = Vec::new();
        for aggregate in &definitions.aggregates {
            let condition = aggregate.filter.as_ref().map(|filter| {
                let condition = filter.expression().map(&mut |p| slot(p));
                conditions.iter().position(|c| *c == condition).unwrap_or_else(|| {
                    conditions.push(condition);
                    conditions.len() - 1
                })
            });
            let fields = reads(&aggregate.kind).iter().filter_map(|field| field_names.iter().position(|f| f == field)).collect();
            asks.push(Asks { condition, fields });
        }
        Self {
            hunt: site(&places.hunt),
            id: places.id.iter().map(site).collect(),
            event_type: site(&places.event_type),
            time: places.time.as_ref().map(site),
            max_bytes: places.max_bytes,
            max_ahead: definitions.time.max_ahead,
            fields: field_names.iter().map(|(pointer, usage)| (slot(pointer), *usage)).collect(),
            field_names,
            conditions,
            interests: Interests::listed(&definitions.aggregates, &asks),
            aggregates: definitions.aggregates.clone(),
            asks,
            memory: Mutex::new(Memory::new(trie.slots())),
            trie,
        }
    }

    /// The number of the field that `pointer` read as `usage` got, for the fold. Panics if no aggregate reads it.
    /// Plans of the same definitions agree on it, whatever their topics.
    pub fn field(&self, pointer: &Pointer, usage: Use) -> usize {
        let name = self.field_names.iter().position(|(p, u)| p == pointer && *u == usage);
        name.expect("only fields that aggregates read are asked for")
    }

    /// The number that events of this type carry in [`Event::event_type`]; `None` if no `on` and no stage of a funnel names it in full.
    /// Plans of the same definitions agree on it, whatever their topics.
    pub fn type_number(&self, event_type: &str) -> Option<u32> {
        self.interests.get(event_type.as_bytes()).map(|interest| interest.number)
    }

    /// Decodes every record of `batch` into `out`, whose former content is dropped (its memory is used again).
    pub fn decode(&self, batch: &Batch, out: &mut Decoded) {
        self.with_memory(|memory| {
            out.events.clear();
            out.fields.clear();
            out.extra.clear();
            out.stride = self.fields.len();
            out.fields.resize(batch.records.len() * out.stride, Field::Absent);
            out.events.reserve(batch.records.len());
            for (index, record) in batch.records.iter().enumerate() {
                let fields = &mut out.fields[index * out.stride..(index + 1) * out.stride];
                let (event, _) = self.record(batch, record, memory, fields, &mut out.extra);
                out.events.push(event);
            }
        });
    }

    /// Another thread may be decoding by the same plan: it then has the memory, and this one makes its own.
    pub(super) fn with_memory<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        match self.memory.try_lock() {
            Ok(mut memory) => work(&mut memory),
            Err(_) => work(&mut Memory::new(self.trie.slots())),
        }
    }

    pub(super) fn record(
        &self,
        batch: &Batch,
        record: &Record,
        memory: &mut Memory,
        fields: &mut [Field],
        extra: &mut Vec<u8>,
    ) -> (Event, Option<Refusal>) {
        let mut event = Event {
            verdict: Verdict::Event,
            hunt: Span::NULL,
            hunt_hash: 0,
            id: 0,
            time: Micros(0),
            event_type: u32::MAX,
            matches: 0,
        };
        let Some(value) = batch.value(record) else {
            event.verdict = Verdict::Ignored;
            return (event, None);
        };
        let mut desk = Desk { plan: self, batch, record, value, event: &mut event, fields, extra };
        let refusal = desk.judge(memory).err();
        if let Some(refusal) = refusal {
            event.verdict = Verdict::Rejected(refusal.reason);
            event.id = 0;
            event.matches = 0;
            fields.fill(Field::Absent);
        }
        (event, refusal)
    }
}

/// The members an aggregate of this kind reads, and what for.
fn reads(kind: &Kind) -> Vec<(Pointer, Use)> {
    match kind {
        Kind::Count => vec![],
        Kind::Sum { of } | Kind::Min { of } | Kind::Max { of } | Kind::Mean { of } | Kind::Quantiles { of, .. } => {
            vec![(of.clone(), Use::Number)]
        }
        Kind::First { of } | Kind::Last { of } => vec![(of.clone(), Use::Json)],
        Kind::Distinct { of, .. } => vec![(of.clone(), Use::Key)],
        Kind::Funnel { by, .. } => vec![(by.clone(), Use::Key)],
        Kind::Top { by, sum, .. } => {
            let sum = sum.iter().map(|sum| (sum.clone(), Use::Number));
            [(by.clone(), Use::Key)].into_iter().chain(sum).collect()
        }
    }
}
