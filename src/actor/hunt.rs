//! The actor around one hunt: orders in, replies into the partition's outbox.

use super::partition::{PartitionActor, Replies};
use super::supervisor::{self, LastPanic};
use crate::hunt::{Hook, Hunt, Order, Reply};
use crate::partial::Fold;
use actix::{Actor, Addr, Context, Handler, Message, Supervised};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// One in this many orders is timed: the clock costs as much as a short order.
const TIMED: u32 = 64;

/// Where a partition's hunts put their replies; wakes the partition once when it fills.
pub struct Outbox {
    replies: RefCell<Vec<Reply>>,
    partition: Addr<PartitionActor>,
    orders: Cell<u32>,
    apply_seconds: metrics::Histogram,
}

impl Outbox {
    pub fn new(partition: Addr<PartitionActor>) -> Rc<Self> {
        Rc::new(Self {
            replies: RefCell::new(Vec::new()),
            partition,
            orders: Cell::new(0),
            apply_seconds: crate::metrics::apply_seconds(),
        })
    }

    fn push(&self, reply: Reply) {
        let mut replies = self.replies.borrow_mut();
        if replies.is_empty() {
            self.partition.do_send(Replies);
        }
        replies.push(reply);
    }

    /// Everything put in since the last time, in order.
    pub fn take(&self) -> Vec<Reply> {
        self.replies.take()
    }
}

pub struct HuntActor {
    hunt: Hunt,
    outbox: Rc<Outbox>,
    pub(super) last_panic: LastPanic,
}

impl HuntActor {
    /// Starts a hunt's actor on this arbiter, with a saved state or from nothing.
    pub fn start(
        fold: Arc<Fold>,
        slot: u32,
        generation: u32,
        saved: Option<&[u8]>,
        hook: Option<Hook>,
        outbox: Rc<Outbox>,
    ) -> Addr<HuntActor> {
        let (hunt, reply) = Hunt::new(fold, slot, generation, saved, hook);
        if let Some(reply) = reply {
            outbox.push(reply);
        }
        supervisor::start(HuntActor { hunt, outbox, last_panic: LastPanic::default() })
    }
}

impl Actor for HuntActor {
    type Context = Context<Self>;
}

impl Message for Order {
    type Result = ();
}

impl Handler<Order> for HuntActor {
    type Result = ();

    fn handle(&mut self, order: Order, _: &mut Self::Context) {
        let orders = self.outbox.orders.get();
        self.outbox.orders.set(orders.wrapping_add(1));
        let began = orders.is_multiple_of(TIMED).then(Instant::now);
        if let Some(reply) = self.hunt.carry_out(order) {
            self.outbox.push(reply);
        }
        if let Some(began) = began {
            self.outbox.apply_seconds.record(began.elapsed());
        }
    }
}

impl Supervised for HuntActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        crate::metrics::hunt_restarts().increment(1);
        let why = self.last_panic.borrow().clone();
        let reply = self.hunt.after_panic(&why);
        self.outbox.push(reply);
    }
}

/// Asks for the encoded state as it is after the orders sent before; `None` while the hunt is lost.
pub struct State;

impl Message for State {
    type Result = Option<Vec<u8>>;
}

impl Handler<State> for HuntActor {
    type Result = Option<Vec<u8>>;

    fn handle(&mut self, _: State, _: &mut Self::Context) -> Self::Result {
        self.hunt.encoded()
    }
}
