//! A **dead letter** made of the record that could not be applied.

use super::{DeadLetter, LetterState};
use crate::decode::Decoded;
use crate::outcome::Reason;
use crate::record::Batch;
use crate::time::Micros;

/// Of a value that is too large, so much is kept.
const KEPT_OF_TOO_LARGE: usize = 64 << 10;

impl DeadLetter {
    /// Of record `index` of a decoded batch; `at`: the wall clock.
    pub fn of(batch: &Batch, decoded: &Decoded, index: usize, reason: Reason, detail: String, at: Micros) -> DeadLetter {
        let record = &batch.records[index];
        let hunt = decoded.events[index].hunt;
        let hunt_id = (!hunt.is_null()).then(|| String::from_utf8_lossy(decoded.text(batch, hunt)).into_owned());
        let kept = if reason == Reason::TooLarge { KEPT_OF_TOO_LARGE } else { usize::MAX };
        DeadLetter {
            partition: batch.partition.clone(),
            offset: record.offset,
            hunt_id,
            reason,
            detail,
            key: batch.key(record).map(<[u8]>::to_vec),
            value: batch.value(record).map(|value| value[..value.len().min(kept)].to_vec()),
            headers: batch
                .headers(record)
                .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.map(<[u8]>::to_vec)))
                .collect(),
            record_at: Micros::of_record_timestamp(record.timestamp_ms),
            failed_at: at,
            state: LetterState::Rejected,
            applied_at: None,
        }
    }
}
