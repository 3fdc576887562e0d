//! The **supervisor**: a future that polls one hunt's actor and restarts it when its handler panics.
//!
//! actix's own `Supervisor` does not outlive a panic. This one does: `restarting()` runs on the same
//! actor, which then goes on or says that it is lost; a panic in there is met the same way. Its whole
//! policy: a hunt never ends by a panic; whether it goes on is the partition's to decide.

use super::hunt::HuntActor;
use actix::dev::ContextFut;
use actix::{Addr, Context};
use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

/// The words of the last panic, left by the supervisor for the actor it restarts.
pub type LastPanic = Rc<RefCell<String>>;

struct Supervised {
    future: ContextFut<HuntActor, Context<HuntActor>>,
    last_panic: LastPanic,
}

/// Starts the actor on this arbiter, under supervision.
pub fn start(actor: HuntActor) -> Addr<HuntActor> {
    let last_panic = actor.last_panic.clone();
    let future = Context::new().into_future(actor);
    let address = future.address();
    actix::spawn(Supervised { future, last_panic });
    address
}

impl Future for Supervised {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut panicked = match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.future).poll(cx))) {
            Ok(poll) => return poll,
            Err(panic) => panic,
        };
        loop {
            *this.last_panic.borrow_mut() = words(&*panicked);
            match catch_unwind(AssertUnwindSafe(|| this.future.restart())) {
                Ok(true) => break,
                // Nobody holds its address any more.
                Ok(false) => return Poll::Ready(()),
                Err(panic) => panicked = panic,
            }
        }
        // Its queue may hold more: poll again soon.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".into())
}
