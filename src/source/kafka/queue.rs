//! The **queue** of one assigned partition: its fetched records, taken many at a time.
//!
//! [`PartitionQueue::read`] is `rd_kafka_consume_batch_queue` on a private queue that the partition's
//! own is forwarded to *before* the partition is assigned, so that no record of it ever reaches the
//! consumer's queue, where only `poll` (two to three times dearer a record) could take it, and where
//! a batch call would swallow rebalances.
//!
//! Why a queue a partition: a slow partition is simply not read on. librdkafka then stops fetching
//! it at `queued.max.messages.kbytes`, keeps what it has, and nothing is fetched twice; pausing it
//! would throw the fetched records away each time.
//!
//! Invariant: messages of an older assignment never come out (librdkafka drops them by version), and every
//! message taken is destroyed exactly once. Two traps come from a *stop* still under way, which ends some time after
//! `incremental_unassign` returned: it clears the forwarding, so [`PartitionQueue::forward`] is repeated until
//! the first message has come; and until it ends librdkafka's position is the former assignment's, which [`PartitionQueue::position`] sees through.
//!
//! Why `enable.partition.eof` is off: the batch call takes every message for a record, so that an end-of-partition message
//! moves librdkafka's position one past the end; each rebalance pauses all partitions and resumes them at that
//! position, and the next record would be left out. The position itself tells where the end is.

use super::client::Native;
use super::partition::Outbox;
use crate::position::{Offset, Position};
use crate::record::PartitionId;
use rdkafka::bindings::*;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

/// What comes out of a queue, in order.
pub(super) enum Taken<'a> {
    Record(Message<'a>),
    /// What follows may not be next to what came before: the partition must be read again from its position.
    Error(RDKafkaErrorCode, String),
}

pub(super) struct PartitionQueue {
    client: Arc<Native>,
    topic: CString,
    partition: i32,
    /// The partition's own queue, forwarded to `private`.
    own: *mut rd_kafka_queue_t,
    private: *mut rd_kafka_queue_t,
    /// Room for one batch of messages, reused.
    taken: Vec<*mut rd_kafka_message_t>,
    /// What librdkafka gave as the position when the queue was made; `None`, or once it has changed, it is this assignment's.
    former: Option<Position>,
    /// Woken from librdkafka's threads; must outlive the callback on `private`.
    _wakes: Arc<Thread>,
}

// SAFETY: librdkafka's clients and queues may be used from any thread; the pointers are this struct's own.
unsafe impl Send for PartitionQueue {}

impl PartitionQueue {
    /// Forwards the partition's queue to a private one. Whenever that one gets its first message, `wakes` is unparked.
    pub fn new(client: Arc<Native>, id: &PartitionId, wakes: Arc<Thread>) -> Self {
        let topic = CString::new(&*id.topic).expect("a topic that Kafka named has no NUL");
        // SAFETY: the client is alive; both queues are ours to destroy; the thread handle lives as long as the callback.
        let (own, private) = unsafe {
            let native = client.client().native_ptr();
            let own = rd_kafka_queue_get_partition(native, topic.as_ptr(), id.partition);
            assert!(!own.is_null(), "librdkafka makes the queue of any partition");
            let private = rd_kafka_queue_new(native);
            rd_kafka_queue_cb_event_enable(private, Some(wake), Arc::as_ptr(&wakes).cast_mut().cast());
            (own, private)
        };
        let mut queue =
            Self { client, topic, partition: id.partition, own, private, taken: Vec::new(), former: None, _wakes: wakes };
        queue.former = queue.native_position();
        queue.forward();
        queue
    }

    /// Forwards again; what has gathered meanwhile moves over, in order.
    pub fn forward(&self) {
        // SAFETY: both queues live as long as `self`.
        unsafe { rd_kafka_queue_forward(self.own, self.private) }
    }

    /// Hands at most `limit` messages to `each`, waiting at most `wait` until that many are there. After
    /// an error the rest of them is dropped unseen. Returns how many came out.
    /// (Markers never do: a read of nothing may still have moved the position.)
    pub fn read(&mut self, limit: usize, wait: Duration, mut each: impl FnMut(Taken<'_>)) -> usize {
        self.taken.reserve(limit);
        // SAFETY: the array has room for `limit` pointers; the messages are ours until destroyed below.
        let count = unsafe {
            let count = rd_kafka_consume_batch_queue(self.private, wait.as_millis() as i32, self.taken.as_mut_ptr(), limit);
            let count = usize::try_from(count).unwrap_or(0);
            self.taken.set_len(count);
            count
        };
        let mut broken = false;
        for message in self.taken.drain(..) {
            if !broken {
                // SAFETY: a message lives until it is destroyed.
                let taken = unsafe { read_message(&*message) };
                match taken {
                    Taken::Record(_) => self.former = None,
                    Taken::Error(..) => broken = true,
                }
                each(taken);
            }
            // SAFETY: not destroyed before, nothing borrows it any more.
            unsafe { rd_kafka_message_destroy(message) }
        }
        count
    }

    /// The next offset the reader would get, past markers and aborted records that came out of the queue. `None`: nothing has come out yet.
    /// Not to be asked after an error came out.
    pub fn position(&mut self) -> Option<Position> {
        let position = self.native_position();
        if self.former.is_some() && position == self.former {
            return None;
        }
        self.former = None;
        position
    }

    fn native_position(&self) -> Option<Position> {
        // SAFETY: the list is made, filled and destroyed here.
        unsafe {
            let list = rd_kafka_topic_partition_list_new(1);
            let element = rd_kafka_topic_partition_list_add(list, self.topic.as_ptr(), self.partition);
            let code = rd_kafka_position(self.client.client().native_ptr(), list);
            let offset = (*element).offset;
            rd_kafka_topic_partition_list_destroy(list);
            (code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && offset >= 0).then_some(Position(offset))
        }
    }

    /// The end of the log as last seen by a fetch, open transactions included.
    pub fn cached_high(&self) -> Option<Position> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: two numbers are written.
        let code = unsafe {
            rd_kafka_get_watermark_offsets(
                self.client.client().native_ptr(),
                self.topic.as_ptr(),
                self.partition,
                &mut low,
                &mut high,
            )
        };
        (code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(Position(high))
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: each is destroyed once, before the client; disabling the callback waits for one that runs.
        unsafe {
            rd_kafka_queue_cb_event_enable(self.private, None, ptr::null_mut());
            rd_kafka_queue_destroy(self.own);
            rd_kafka_queue_destroy(self.private);
        }
    }
}

/// Called by librdkafka's threads when a queue is no longer empty.
unsafe extern "C" fn wake(_: *mut rd_kafka_t, thread: *mut c_void) {
    // SAFETY: the pointer given to `rd_kafka_queue_cb_event_enable`, alive until the callback is disabled.
    unsafe { &*thread.cast::<Thread>() }.unpark();
}

unsafe fn read_message(message: &rd_kafka_message_t) -> Taken<'_> {
    match message.err {
        rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Taken::Record(Message(message)),
        code => {
            // SAFETY: the text belongs to the message and is copied.
            let text = unsafe {
                let text = rd_kafka_message_errstr(message);
                if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
            };
            Taken::Error(code.into(), text)
        }
    }
}

/// One record, borrowed from librdkafka.
pub(super) struct Message<'a>(&'a rd_kafka_message_t);

impl<'a> Message<'a> {
    /// The one copy that is made of it.
    pub fn copy_to(&self, outbox: &mut Outbox) {
        outbox.push(self.offset(), self.timestamp_ms(), self.key(), self.value(), self.headers());
    }

    pub fn offset(&self) -> Offset {
        Offset(self.0.offset)
    }

    /// Negative: it has none.
    fn timestamp_ms(&self) -> i64 {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives; one value is written.
        unsafe { rd_kafka_message_timestamp(self.0, &mut kind) }
    }

    fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: pointer and length belong together and live with the message.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: as above.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    fn headers(&self) -> Headers<'a> {
        let mut headers = ptr::null_mut();
        // SAFETY: the headers belong to the message; null is left where there are none.
        unsafe { rd_kafka_message_headers(self.0, &mut headers) };
        Headers { headers, at: 0, message: PhantomData }
    }
}

/// A record's headers in their order.
pub(super) struct Headers<'a> {
    headers: *mut rd_kafka_headers_t,
    at: usize,
    message: PhantomData<&'a rd_kafka_message_t>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.headers.is_null() {
            return None;
        }
        let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
        // SAFETY: name and value live with the message; a name ends with NUL.
        unsafe {
            let code = rd_kafka_header_get_all(self.headers, self.at, &mut name, &mut value, &mut len);
            if code != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            self.at += 1;
            Some((CStr::from_ptr(name).to_bytes(), bytes(value, len)))
        }
    }
}

/// `None` for null, which Kafka tells from empty.
unsafe fn bytes<'a>(pointer: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's pointer and length belong together.
    (!pointer.is_null()).then(|| unsafe { slice::from_raw_parts(pointer.cast(), len) })
}
