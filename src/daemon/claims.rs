//! **Claims** that stand in the store, looked at beside the checkpoints: a partition without records would not learn from one that
//! another's claim has replaced its own, and a daemon that was frozen hears from the group first.
//!
//! Invariant: reading only; what a newer claim means is decided by the partition's actor and counted once.

use crate::actor::partition::News;
use crate::metrics;
use crate::position::Epoch;
use crate::record::PartitionId;
use crate::store::Store;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

const EVERY: Duration = Duration::from_secs(5);

/// Tells every few seconds which claims stand in the store, for as long as somebody listens.
pub async fn look(store: Store, news: UnboundedSender<News>) {
    while !news.is_closed() {
        tokio::time::sleep(EVERY).await;
        match store.partitions().await {
            Ok(claims) => drop(news.send(News::Claims(claims))),
            // Whoever has something to save says so, and is heard.
            Err(error) => metrics::store_errors(&error).increment(1),
        }
    }
}

/// Counts as fenced what others have claimed of `lost`, partitions with the epochs of this `owner`'s claims: nothing more of it is saved
/// here. What nobody has claimed was lost, not fenced.
pub async fn count_taken_over(store: Store, owner: String, lost: Vec<(PartitionId, Epoch)>) {
    let claims = match store.partitions().await {
        Ok(claims) => claims,
        Err(error) => {
            metrics::store_errors(&error).increment(1);
            return tracing::warn!(%error, "whether others have claimed the partitions that were lost is not known");
        }
    };
    for (partition, epoch) in lost {
        let Some(claim) = claims.iter().find(|claim| claim.partition == partition) else { continue };
        let by = claim.owner.as_ref().map_or("nobody", |owner| &*owner.id);
        // The group may have given it back to us already: then ours is the claim after another's.
        if claim.epoch.0 > epoch.0 + i64::from(by == owner) {
            metrics::fenced().increment(1);
            tracing::warn!(%partition, ours = %epoch, found = %claim.epoch, by, "fenced: another owner had claimed the partition before it was lost");
        }
    }
}
