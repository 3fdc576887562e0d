//! **Queries**: questions to the brokers that never block the one who asks: offsets at a partition's
//! ends, what a topic is, how it is configured. Asked now, answered by a later [`Queries::poll`].
//!
//! Why raw: rdkafka's own calls for offsets block, it has none for topic ids, and the thread that
//! owns the consumer must never wait for a broker. Invariant: every pointer here belongs to an event
//! or a list that lives until the end of the function that reads it, and the client outlives the queue.

use super::client::Native;
use crate::record::PartitionId;
use rdkafka::bindings::*;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

/// Which offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Of the oldest record.
    Low,
    /// The last stable offset: how far committed records can be read.
    Stable,
    /// The high watermark: the end of the log, open transactions included.
    High,
    /// Of the first record with this timestamp or a later one; −1: none.
    At { timestamp_ms: i64 },
}

#[derive(Debug)]
pub(super) enum Answer {
    Offsets(Which, Vec<(PartitionId, Result<i64, RDKafkaErrorCode>)>),
    Topics(Vec<Described>),
    /// By topic: name and value of each of its settings.
    Configs(Vec<(String, Result<Vec<(String, String)>, RDKafkaErrorCode>)>),
    /// The whole question failed.
    Failed(String),
}

#[derive(Debug)]
pub(super) struct Described {
    pub topic: String,
    pub found: Result<(String, i32), RDKafkaErrorCode>,
}

/// A queue of answers at one client.
pub(super) struct Queries {
    client: Arc<Native>,
    queue: *mut rd_kafka_queue_t,
}

// SAFETY: librdkafka's clients and queues may be used from any thread; the pointer is this struct's own.
unsafe impl Send for Queries {}

impl Drop for Queries {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once, before the client it belongs to.
        unsafe { rd_kafka_queue_destroy(self.queue) }
    }
}

impl Queries {
    pub fn new(client: Arc<Native>) -> Self {
        // SAFETY: the client is alive; the queue is ours to destroy.
        let queue = unsafe { rd_kafka_queue_new(client.client().native_ptr()) };
        Self { client, queue }
    }

    pub fn offsets(&self, which: Which, partitions: &[PartitionId], timeout: Duration) {
        let (offset, isolation, tag) = match which {
            Which::Low => (-2, rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED, 0),
            Which::Stable => (-1, rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED, 1),
            Which::High => (-1, rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED, 2),
            Which::At { timestamp_ms } => {
                (timestamp_ms.max(0), rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED, 3 + timestamp_ms.max(0))
            }
        };
        // SAFETY: list and options are made, filled and destroyed here; librdkafka copies both.
        unsafe {
            let list = rd_kafka_topic_partition_list_new(partitions.len() as i32);
            for id in partitions {
                let Ok(topic) = CString::new(&*id.topic) else { continue };
                (*rd_kafka_topic_partition_list_add(list, topic.as_ptr(), id.partition)).offset = offset;
            }
            let options = self.options(rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout);
            let error = rd_kafka_AdminOptions_set_isolation_level(options, isolation);
            if !error.is_null() {
                rd_kafka_error_destroy(error);
            }
            rd_kafka_AdminOptions_set_opaque(options, ptr::without_provenance_mut::<c_void>(tag as usize));
            rd_kafka_ListOffsets(self.client.client().native_ptr(), list, options, self.queue);
            rd_kafka_AdminOptions_destroy(options);
            rd_kafka_topic_partition_list_destroy(list);
        }
    }

    pub fn topics(&self, topics: &[String], timeout: Duration) {
        let names: Vec<CString> = topics.iter().filter_map(|t| CString::new(t.as_str()).ok()).collect();
        let mut pointers: Vec<*const c_char> = names.iter().map(|n| n.as_ptr()).collect();
        // SAFETY: as above; the names outlive the call, which copies them.
        unsafe {
            let collection = rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            let options = self.options(rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout);
            rd_kafka_DescribeTopics(self.client.client().native_ptr(), collection, options, self.queue);
            rd_kafka_AdminOptions_destroy(options);
            rd_kafka_TopicCollection_destroy(collection);
        }
    }

    pub fn configs(&self, topics: &[String], timeout: Duration) {
        let names: Vec<CString> = topics.iter().filter_map(|t| CString::new(t.as_str()).ok()).collect();
        // SAFETY: as above.
        unsafe {
            let mut resources: Vec<*mut rd_kafka_ConfigResource_t> = names
                .iter()
                .map(|n| rd_kafka_ConfigResource_new(rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, n.as_ptr()))
                .collect();
            let options = self.options(rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout);
            rd_kafka_DescribeConfigs(
                self.client.client().native_ptr(),
                resources.as_mut_ptr(),
                resources.len(),
                options,
                self.queue,
            );
            rd_kafka_AdminOptions_destroy(options);
            rd_kafka_ConfigResource_destroy_array(resources.as_mut_ptr(), resources.len());
        }
    }

    /// The next answer, waiting for it at most `wait`.
    pub fn poll(&self, wait: Duration) -> Option<Answer> {
        // SAFETY: the event is ours until destroyed; everything read from it is copied before.
        unsafe {
            let event = rd_kafka_queue_poll(self.queue, wait.as_millis() as i32);
            if event.is_null() {
                return None;
            }
            let code = rd_kafka_event_error(event);
            let answer = if code != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                Some(Answer::Failed(text(rd_kafka_event_error_string(event))))
            } else {
                match rd_kafka_event_type(event) {
                    RD_KAFKA_EVENT_LISTOFFSETS_RESULT => Some(read_offsets(event)),
                    RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT => Some(read_topics(event)),
                    RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT => Some(read_configs(event)),
                    _ => None,
                }
            };
            rd_kafka_event_destroy(event);
            answer
        }
    }

    unsafe fn options(&self, operation: rd_kafka_admin_op_t, timeout: Duration) -> *mut rd_kafka_AdminOptions_t {
        let mut error = [0 as c_char; 256];
        // SAFETY: the client is alive, the buffer as long as it says; a refused time-out leaves librdkafka's own.
        unsafe {
            let options = rd_kafka_AdminOptions_new(self.client.client().native_ptr(), operation);
            rd_kafka_AdminOptions_set_request_timeout(options, timeout.as_millis() as i32, error.as_mut_ptr(), error.len());
            options
        }
    }
}

unsafe fn read_offsets(event: *mut rd_kafka_event_t) -> Answer {
    // SAFETY: the caller holds the event; the tag is the number `offsets` put there.
    unsafe {
        let which = match rd_kafka_event_opaque(event).addr() as i64 {
            0 => Which::Low,
            1 => Which::Stable,
            2 => Which::High,
            tag => Which::At { timestamp_ms: tag - 3 },
        };
        let mut count = 0;
        let infos = rd_kafka_ListOffsets_result_infos(rd_kafka_event_ListOffsets_result(event), &mut count);
        let found = (0..count).map(|i| {
            let found = &*rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(i));
            let id = PartitionId::new(&text(found.topic), found.partition);
            let refused = found.err != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            (id, if refused { Err(found.err.into()) } else { Ok(found.offset) })
        });
        Answer::Offsets(which, found.collect())
    }
}

unsafe fn read_topics(event: *mut rd_kafka_event_t) -> Answer {
    // SAFETY: the caller holds the event.
    unsafe {
        let mut count = 0;
        let topics = rd_kafka_DescribeTopics_result_topics(rd_kafka_event_DescribeTopics_result(event), &mut count);
        let described = (0..count).map(|i| {
            let topic = *topics.add(i);
            let error = rd_kafka_TopicDescription_error(topic);
            let code = if error.is_null() { rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR } else { rd_kafka_error_code(error) };
            let mut partitions = 0;
            rd_kafka_TopicDescription_partitions(topic, &mut partitions);
            let found = if code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                let id = rd_kafka_TopicDescription_topic_id(topic);
                Ok((text(rd_kafka_Uuid_base64str(id)), partitions as i32))
            } else {
                Err(code.into())
            };
            Described { topic: text(rd_kafka_TopicDescription_name(topic)), found }
        });
        Answer::Topics(described.collect())
    }
}

unsafe fn read_configs(event: *mut rd_kafka_event_t) -> Answer {
    // SAFETY: the caller holds the event.
    unsafe {
        let mut count = 0;
        let resources = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &mut count);
        let configs = (0..count).map(|i| {
            let resource = *resources.add(i);
            let code = rd_kafka_ConfigResource_error(resource);
            let found = if code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                let mut entries = 0;
                let list = rd_kafka_ConfigResource_configs(resource, &mut entries);
                let entry = |e: usize| {
                    let entry = *list.add(e);
                    (text(rd_kafka_ConfigEntry_name(entry)), text(rd_kafka_ConfigEntry_value(entry)))
                };
                Ok((0..entries).map(entry).collect())
            } else {
                Err(code.into())
            };
            (text(rd_kafka_ConfigResource_name(resource)), found)
        });
        Answer::Configs(configs.collect())
    }
}

/// The cluster's id, if a broker says it in time.
pub(super) fn cluster_id(client: &Native, timeout: Duration) -> Option<String> {
    // SAFETY: the string is librdkafka's, freed with its own function after it is copied.
    unsafe {
        let native = client.client().native_ptr();
        let id = rd_kafka_clusterid(native, timeout.as_millis() as i32);
        if id.is_null() {
            return None;
        }
        let copied = text(id);
        rd_kafka_mem_free(native, id.cast());
        Some(copied)
    }
}

/// A C string of librdkafka's, copied; empty for null.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: not null, ends with NUL, lives for this call.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
