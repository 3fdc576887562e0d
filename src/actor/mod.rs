//! The **actors**: one around each hunt, one around each partition, both thin.
//!
//! A partition's actor and all of its hunts live on one arbiter, so orders and replies never cross a
//! thread; batches cross once, from the source. The partition's actor gives every input to its
//! machine and performs the effects in their order; a hunt's actor gives every order to its hunt and
//! puts the reply into the partition's [`hunt::Outbox`].
//!
//! Runtime semantics, as tried with actix 0.13:
//! * A panic in a handler ends that actor's future, and with it the messages behind it, unless the
//!   future is polled by our [`supervisor`], which catches the panic and restarts the context: address
//!   and queue survive, only the message at hand is lost (and the hunt kept it in hand).
//! * `do_send` ignores a mailbox's capacity: what bounds queues here is the bytes a partition may
//!   have in flight ([`crate::record::Budget`]), given back when the last hunt drops its share of a batch.
//! * An actor ends when its last address is dropped; the partition drops it only when the machine says
//!   that nothing is in its queue.

pub mod hunt;
pub mod partition;
pub mod supervisor;
