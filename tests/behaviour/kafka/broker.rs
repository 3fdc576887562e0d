//! A real Kafka for these tests: one broker in KRaft mode, started at the first need and ended with the process.
//!
//! Beside the open listener it has one that asks for a login: user `guest` (password `guest`) may do nothing.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use std::ffi::CString;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::ptr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The broker that all tests share.
pub fn broker() -> &'static Broker {
    static BROKER: LazyLock<Broker> = LazyLock::new(Broker::start);
    &BROKER
}

pub struct Broker {
    pub address: String,
    /// Asks for SASL PLAIN.
    pub login_address: String,
    /// The shell that ends Kafka when its standard input closes, be it by this process's death.
    _guard: Child,
}

impl Broker {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory for Kafka").keep();
        let [client, login, controller] = free_ports();
        let properties = dir.join("server.properties");
        fs::write(
            &properties,
            format!(
                "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
                 listeners=PLAINTEXT://127.0.0.1:{client},SASL_PLAINTEXT://127.0.0.1:{login},CONTROLLER://127.0.0.1:{controller}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{client},SASL_PLAINTEXT://127.0.0.1:{login}\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT\n\
                 controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
                 sasl.enabled.mechanisms=PLAIN\n\
                 listener.name.sasl_plaintext.plain.sasl.jaas.config=\
                 org.apache.kafka.common.security.plain.PlainLoginModule required user_guest=\"guest\";\n\
                 authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users=User:ANONYMOUS\n\
                 log.dirs={}/data\nauto.create.topics.enable=false\nlog.retention.ms=-1\ngroup.initial.rebalance.delay.ms=0\n\
                 offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
                 transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=1\n",
                dir.display()
            ),
        )
        .expect("write server.properties");
        let java = |class: &str, rest: &str| format!("java -Xmx512m -cp '{}/*' {class} {rest}", jars().display());
        let config = properties.display();
        let script = format!(
            "exec 3<&0\n{} && {{ {} & }}\nkafka=$!\ncat <&3 >/dev/null\nkill -9 $kafka\nrm -rf '{}'\n",
            java("kafka.tools.StorageTool", &format!("format -t aHVudGxpbmUtdGVzdHMtMQ -c {config} </dev/null")),
            java("kafka.Kafka", &format!("{config} </dev/null")),
            dir.display()
        );
        let output = File::create(dir.join("output")).expect("a file for Kafka's output");
        let guard = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .expect("start Kafka");
        let broker = Self { address: format!("127.0.0.1:{client}"), login_address: format!("127.0.0.1:{login}"), _guard: guard };
        broker.await_answer(&dir);
        broker
    }

    fn await_answer(&self, dir: &Path) {
        let client: BaseConsumer = self.config().create().expect("a client");
        let deadline = Instant::now() + Duration::from_secs(60);
        while client.fetch_metadata(None, Duration::from_secs(1)).is_err() {
            let output = || fs::read_to_string(dir.join("output")).unwrap_or_default();
            assert!(Instant::now() < deadline, "Kafka did not come up:\n{}", output());
        }
    }

    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("an admin client")
    }

    pub fn create_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
            let results = wait(self.admin().create_topics([&new], &options)).expect("an answer");
            match &results[0] {
                Ok(_) => break,
                // Of this name one is still being deleted.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) if Instant::now() < deadline => {}
                Err((_, code)) => panic!("create {topic}: {code}"),
            }
        }
        self.await_topic(topic, Some(partitions as usize));
    }

    pub fn delete_topic(&self, topic: &str) {
        let results = wait(self.admin().delete_topics(&[topic], &AdminOptions::new())).expect("an answer");
        results[0].as_ref().expect("delete the topic");
        self.await_topic(topic, None);
    }

    fn await_topic(&self, topic: &str, partitions: Option<usize>) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let client: BaseConsumer = self.config().create().expect("a client");
            let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(5)).expect("metadata");
            let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none()).map(|t| t.partitions());
            let led = found.is_none_or(|ps| ps.iter().all(|p| p.leader() >= 0));
            if led && found.map(<[_]>::len).filter(|n| *n > 0) == partitions {
                return;
            }
            assert!(Instant::now() < deadline, "{topic} has not {partitions:?} partitions");
        }
    }

    /// Retention in fast motion: removes the records of a partition below `offset`.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        let done = wait(self.admin().delete_records(&list, &AdminOptions::new())).expect("delete records");
        assert!(done.elements().iter().all(|e| e.error().is_ok()), "{done:?}");
    }

    /// Grants user `guest` a right on a topic, or on a group.
    pub fn grant(&self, operation: Right, name: &str) {
        use rdkafka::bindings::*;
        let admin = self.admin();
        let (kind, operation) = match operation {
            Right::DescribeTopic => {
                (rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_DESCRIBE)
            }
            Right::ReadTopic => {
                (rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ)
            }
            Right::ReadGroup => {
                (rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_GROUP, rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ)
            }
        };
        let name = CString::new(name).expect("a name");
        let mut error = [0; 256];
        // SAFETY: everything made here is destroyed here, after the answer came.
        unsafe {
            let native = admin.inner().native_ptr();
            let pattern = rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_LITERAL;
            let allow = rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW;
            let (principal, host) = (c"User:guest".as_ptr(), c"*".as_ptr());
            let mut acl = rd_kafka_AclBinding_new(
                kind,
                name.as_ptr(),
                pattern,
                principal,
                host,
                operation,
                allow,
                error.as_mut_ptr(),
                error.len(),
            );
            let queue = rd_kafka_queue_new(native);
            rd_kafka_CreateAcls(native, &mut acl, 1, ptr::null(), queue);
            let event = rd_kafka_queue_poll(queue, 20_000);
            assert!(!event.is_null() && rd_kafka_event_error(event) == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
            rd_kafka_event_destroy(event);
            rd_kafka_queue_destroy(queue);
            rd_kafka_AclBinding_destroy(acl);
        }
    }

    pub fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let mut config = self.config();
        config.set("linger.ms", "5").set("queue.buffering.max.messages", "1000000").set("enable.idempotence", "true");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config.create().expect("a producer")
    }
}

#[derive(Clone, Copy)]
pub enum Right {
    DescribeTopic,
    ReadTopic,
    ReadGroup,
}

/// Sends numbered records: value `"<n> <padding>"`, key `"k<n>"`, timestamp `1_700_000_000_000 + n`.
pub fn send(producer: &BaseProducer, topic: &str, partition: i32, numbers: std::ops::Range<u64>, padding: usize) {
    let padding = "x".repeat(padding);
    for n in numbers {
        let (key, value) = (format!("k{n}"), format!("{n} {padding}"));
        let record = BaseRecord::to(topic).partition(partition).key(&key).payload(&value).timestamp(1_700_000_000_000 + n as i64);
        enqueue(producer, record);
    }
    producer.flush(Duration::from_secs(30)).expect("flush");
}

/// Sends one record as it is.
pub fn send_raw(producer: &BaseProducer, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>, headers: OwnedHeaders) {
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(0).headers(headers);
    record.key = key;
    record.payload = value;
    enqueue(producer, record);
    producer.flush(Duration::from_secs(30)).expect("flush");
}

fn enqueue<K: rdkafka::message::ToBytes + ?Sized, V: rdkafka::message::ToBytes + ?Sized>(
    producer: &BaseProducer,
    mut record: BaseRecord<'_, K, V>,
) {
    while let Err((error, again)) = producer.send(record) {
        assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
        producer.poll(Duration::from_millis(10));
        record = again;
    }
}

/// Runs a future of an admin client to its end.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// Where Kafka's jars are.
fn jars() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/kafka");
    let places = [std::env::var_os("HUNTLINE_KAFKA_JARS").map(PathBuf::from), Some(tools.join("libs")), Some(tools)];
    let holds_jars = |dir: &PathBuf| {
        let mut entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.any(|e| e.path().extension().is_some_and(|x| x == "jar"))
    };
    places.into_iter().flatten().find(holds_jars).expect("Kafka's jars in .tools/kafka: run `tests/run --install`")
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = std::array::from_fn::<_, N, _>(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|l| l.local_addr().expect("an address").port())
}
