//! A **stream** follows one hunt's view over server-sent events: `event: view` whenever it changes, at most four a second, and a
//! comment when nothing does, so that both ends notice a dead connection.
//!
//! Invariants: at most [`Seats`] streams at once; a stream ends with the daemon; the first event comes at once; and what is sent
//! is never older than what was sent before, as far as the actors and the store go forward themselves.

use super::Service;
use super::hunts::must_be_get;
use super::problem::{Answer, Problem};
use super::query::{Failure, HuntView, Query};
use crate::metrics;
use crate::record::PartitionId;
use crate::store::StoredHunt;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Between two looks at the view, whoever asks: four a second.
const PACE: Duration = Duration::from_millis(250);
/// Between two questions to the store about partials that are not live here.
const STORE_PACE: Duration = Duration::from_secs(1);
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How many streams there may be.
pub struct Seats {
    taken: AtomicUsize,
    all: usize,
}

impl Seats {
    pub fn new(all: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), all })
    }

    fn take(self: &Arc<Self>) -> Option<Seat> {
        let taken = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < self.all).then_some(taken + 1));
        metrics::http_streams().set(taken.map_or(self.all, |before| before + 1) as f64);
        taken.ok().map(|_| Seat(self.clone()))
    }
}

/// Given back when the stream ends, whichever way.
struct Seat(Arc<Seats>);

impl Drop for Seat {
    fn drop(&mut self) {
        let before = self.0.taken.fetch_sub(1, Ordering::AcqRel);
        metrics::http_streams().set((before - 1) as f64);
    }
}

pub async fn follow(service: &Service, request: &HttpRequest, id: String) -> Answer {
    must_be_get(request)?;
    let seat = service.seats.take().ok_or_else(|| {
        let detail = format!("{} streams are open, which is all there may be", service.seats.all);
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "streams", detail).header(header::RETRY_AFTER, "5")
    })?;
    let mut follower = Follower {
        id,
        changed: service.query.live.changed(),
        query: service.query.clone(),
        closing: service.closing.clone(),
        stored: None,
        stored_at: Instant::now(),
        live: BTreeSet::new(),
        looked_at: Instant::now(),
        sent: String::new(),
        sent_at: Instant::now(),
        _seat: seat,
    };
    // The first look also tells whether there is such a hunt, while a status can still say so.
    let view = follower.look().await?;
    let first = follower.frame(&view).map(|frame| Bytes::from(format!("retry: 2000\n\n{frame}")));
    let rest = futures_util::stream::unfold((follower, first), |(mut follower, first)| async move {
        let frame = match first {
            Some(first) => first,
            None => follower.next().await?,
        };
        Some((Ok::<_, Infallible>(frame), (follower, None)))
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        // Compression would hold events back.
        .insert_header((header::CONTENT_ENCODING, "identity"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(rest))
}

struct Follower {
    id: String,
    query: Query,
    changed: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
    /// What the store said last, and when; asked again when it is a second old or another set of actors has the hunt.
    stored: Option<StoredHunt>,
    stored_at: Instant,
    live: BTreeSet<PartitionId>,
    looked_at: Instant,
    /// The JSON sent last.
    sent: String,
    sent_at: Instant,
    _seat: Seat,
}

impl Follower {
    /// The next bytes to send; `None`: the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let heartbeat = self.sent_at + HEARTBEAT;
            let mut closing = self.closing.clone();
            tokio::select! {
                biased;
                // Also when the daemon let go of the sender.
                _ = closing.wait_for(|closing| *closing) => return None,
                _ = sleep_until(heartbeat) => {
                    self.sent_at = Instant::now();
                    return Some(Bytes::from_static(b": still here\n\n"));
                }
                goes_on = worth_a_look(&mut self.changed, self.looked_at) => {
                    if !goes_on {
                        return None;
                    }
                }
            }
            match self.look().await {
                Ok(view) => {
                    if let Some(frame) = self.frame(&view) {
                        return Some(Bytes::from(frame));
                    }
                }
                // A store that is away for a moment changes nothing for those who watch; neither does a hunt not found again.
                Err(Failure::Store(_) | Failure::Unknown) => {}
                Err(Failure::Broken(error)) => {
                    tracing::error!(%error, "a hunt's view cannot be made; its stream ends");
                    return None;
                }
            }
        }
    }

    async fn look(&mut self) -> Result<HuntView, Failure> {
        self.looked_at = Instant::now();
        self.changed.mark_unchanged();
        let live = self.query.live.hunt(&self.id).await;
        let partitions: BTreeSet<PartitionId> = live.iter().map(|partial| partial.partition.clone()).collect();
        if self.stored.is_none() || partitions != self.live || self.stored_at.elapsed() >= STORE_PACE {
            self.stored = self.query.stored.hunt(&self.id).await?;
            self.stored_at = Instant::now();
            self.live = partitions;
        }
        self.query.join(&self.id, live, self.stored.as_ref())
    }

    /// The event that tells a view, unless the last one told the same.
    fn frame(&mut self, view: &HuntView) -> Option<String> {
        let json = serde_json::to_string(view).ok()?;
        if json == self.sent {
            return None;
        }
        self.sent_at = Instant::now();
        let frame = format!("event: view\ndata: {json}\n\n");
        self.sent = json;
        Some(frame)
    }
}

/// Waits until a live view may have changed, or the store may have news, never sooner than the pace allows. False: no more changes.
/// The pace comes first: a change noticed here is looked at, whatever else ends the wait.
async fn worth_a_look(changed: &mut watch::Receiver<u64>, looked_at: Instant) -> bool {
    sleep_until(looked_at + PACE).await;
    !matches!(timeout(STORE_PACE, changed.changed()).await, Ok(Err(_)))
}
