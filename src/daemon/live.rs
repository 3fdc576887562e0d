//! What the API may ask of the running daemon, answered from the board and the partitions' actors.

use crate::actor::partition::{Board, Shown, View};
use crate::api::query::{Live, LiveHunt, LivePartition, Merged};
use crate::partial::Fold;
use crate::partition::Phase;
use crate::record::PartitionId;
use crate::time::Micros;
use crate::window::Finals;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

pub struct LiveDaemon {
    pub board: Arc<Board>,
    pub fold: Arc<Fold>,
    pub troubles: Arc<Mutex<Troubles>>,
}

/// Why the daemon is not ready, beyond what the partitions say of themselves.
#[derive(Default)]
pub struct Troubles {
    /// The group has given nothing yet.
    pub unassigned: bool,
    /// Why Kafka did not answer when it was last asked.
    pub unanswered: Option<String>,
}

impl LiveDaemon {
    fn shown(&self) -> BTreeMap<PartitionId, Shown> {
        self.board.partitions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Live for LiveDaemon {
    fn hunt<'a>(&'a self, id: &'a str) -> Pin<Box<dyn Future<Output = Vec<LiveHunt>> + Send + 'a>> {
        let asked = self.shown().into_values().map(|shown| shown.address.send(View(id.to_owned())));
        Box::pin(async move { join_all(asked).await.into_iter().filter_map(|answer| answer.ok().flatten()).collect() })
    }

    fn partitions(&self) -> Vec<LivePartition> {
        let shown = self.shown().into_iter();
        shown
            .map(|(partition, shown)| LivePartition {
                partition,
                position: matches!(shown.summary.phase, Phase::Running | Phase::Releasing).then_some(shown.summary.dispatched),
                // What was dispatched could be read, whatever the source last heard.
                end: shown.end.map(|end| end.max(shown.summary.dispatched)),
                state: match (shown.halted, shown.summary.phase) {
                    (Some(_), _) => "halted",
                    (None, Phase::Running) if shown.summary.tripped.is_some() => "tripped",
                    (None, Phase::Idle | Phase::Claiming | Phase::ResolvingStart | Phase::Beginning) => "claiming",
                    (None, Phase::Running) => "running",
                    (None, Phase::Releasing | Phase::Ended) => "releasing",
                },
                tripped: shown.summary.tripped,
                epoch: shown.summary.epoch,
            })
            .collect()
    }

    fn readiness(&self) -> Vec<String> {
        let mut why = Vec::new();
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        why.extend(troubles.unassigned.then(|| "no partition is assigned yet".to_owned()));
        why.extend(troubles.unanswered.iter().map(|reason| format!("Kafka does not answer: {reason}")));
        drop(troubles);
        for (partition, shown) in self.shown() {
            if let Some(tripped) = &shown.summary.tripped {
                why.push(format!("{partition}: the breaker tripped: {tripped}"));
            }
            match (shown.halted, shown.summary.phase) {
                (Some(halted), _) => why.push(format!("{partition} stands still: {halted}")),
                (None, Phase::Running | Phase::Releasing) => {}
                (None, _) => why.push(format!("{partition} is assigned and not claimed yet")),
            }
        }
        why
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.board.changed.subscribe()
    }

    fn merge(&self, states: &[(PartitionId, Vec<u8>)], watermark: Option<Micros>) -> Result<Merged, String> {
        let mut merged = self.fold.start();
        for (partition, state) in states {
            let partial = self.fold.decode(state).map_err(|error| format!("the partial of {partition}: {error}"))?;
            self.fold.merge(&mut merged, &partial);
        }
        Ok(Merged {
            events: merged.events as i64,
            view: self.fold.view_with(&merged, Some(Finals(watermark))),
            first_event_at: merged.times.map(|times| times.first),
            last_event_at: merged.times.map(|times| times.last),
        })
    }
}
