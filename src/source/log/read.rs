//! **Reading** a run of records into a batch: one range scan in one read transaction, so that the
//! partition's extent and its records are of the same instant.

use super::Extent;
use super::file::{Error, LogFile};
use crate::position::{Offset, Position};
use crate::record::Batch;
use rusqlite::types::ValueRef;

/// When a batch is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    pub records: usize,
    pub bytes: usize,
}

impl Full {
    pub fn is_reached(self, batch: &Batch) -> bool {
        batch.records.len() >= self.records || batch.bytes() >= self.bytes
    }
}

/// What stood at the position of the batch.
#[derive(Debug, PartialEq)]
pub(super) enum Run {
    /// The batch has what there was, down to nothing, up to its bounds; the partition's extent then.
    Read(Extent),
    /// The records below `to` are gone; the batch is as it was.
    Gap { to: Position },
    /// The file is not what it was; a sentence for the operator. The batch ends where its records still follow one another.
    Broken(String),
}

impl LogFile {
    pub fn extent(&self, partition: i32) -> Result<Extent, Error> {
        self.check_partition(partition)?;
        self.conn
            .prepare_cached(r#"SELECT low, "end" FROM partitions WHERE partition = ?1"#)
            .and_then(|mut query| {
                query.query_row([partition], |row| {
                    Ok(Extent { partition, low: Position(row.get(0)?), end: Position(row.get(1)?) })
                })
            })
            .map_err(self.sql("read the extent of"))
    }

    pub fn extents(&self) -> Result<Vec<Extent>, Error> {
        self.conn
            .prepare_cached(r#"SELECT partition, low, "end" FROM partitions ORDER BY partition"#)
            .and_then(|mut query| {
                query
                    .query_map([], |row| {
                        Ok(Extent { partition: row.get(0)?, low: Position(row.get(1)?), end: Position(row.get(2)?) })
                    })?
                    .collect()
            })
            .map_err(self.sql("read the extent of"))
    }

    /// Adds to `batch` the records from `batch.next` on and below `until`, until it is full.
    pub fn read(&self, batch: &mut Batch, until: Position, full: Full) -> Result<Run, Error> {
        let doing = "read";
        let partition = batch.partition.partition;
        // Ends with the scope: a read transaction held longer would keep the WAL from starting over.
        let _instant = self.conn.unchecked_transaction().map_err(self.sql(doing))?;
        let extent = self.extent(partition)?;
        if batch.next < extent.low {
            return Ok(Run::Gap { to: extent.low });
        }
        if batch.next > extent.end {
            return Ok(Run::Broken(format!(
                "{}: found the log's end at {}, expected it at {} or later: {} is another log, or an older copy of this one",
                batch.partition,
                extent.end,
                batch.next,
                self.path.display()
            )));
        }
        let until = until.min(extent.end);
        let mut query = self
            .conn
            .prepare_cached(&format!(
                r#"SELECT "offset", timestamp_ms, key, value, headers FROM records_{partition} WHERE "offset" >= ?1 AND "offset" < ?2 ORDER BY "offset""#
            ))
            .map_err(self.sql(doing))?;
        let mut rows = query.query((batch.next.0, until.0)).map_err(self.sql(doing))?;
        while !full.is_reached(batch) {
            let Some(row) = rows.next().map_err(self.sql(doing))? else { break };
            let bytes = |column: usize| -> Result<Option<&[u8]>, rusqlite::Error> {
                Ok(match row.get_ref(column)? {
                    ValueRef::Null => None,
                    value => Some(value.as_bytes()?),
                })
            };
            let offset = Offset(row.get(0).map_err(self.sql(doing))?);
            if offset.0 != batch.next.0 {
                return Ok(Run::Broken(self.missing(batch, &offset)));
            }
            let timestamp_ms = row.get(1).map_err(self.sql(doing))?;
            let key = bytes(2).map_err(self.sql(doing))?;
            let value = bytes(3).map_err(self.sql(doing))?;
            let headers = match bytes(4).map_err(self.sql(doing))? {
                None => Vec::new(),
                Some(encoded) => match decode_headers(encoded) {
                    Some(headers) => headers,
                    None => {
                        let file = self.path.display();
                        return Ok(Run::Broken(format!(
                            "{}: the headers of record {offset} in {file} cannot be read",
                            batch.partition
                        )));
                    }
                },
            };
            batch.push(offset, timestamp_ms, key, value, headers);
        }
        if batch.next < until && !full.is_reached(batch) {
            return Ok(Run::Broken(self.missing(batch, &until)));
        }
        Ok(Run::Read(extent))
    }

    fn missing(&self, batch: &Batch, found: &dyn std::fmt::Display) -> String {
        format!(
            "{}: found {found} next, expected record {}: {} has lost records to something other than trimming",
            batch.partition,
            batch.next,
            self.path.display()
        )
    }
}

/// Writes headers as the file keeps them: for each, the name's length and bytes, the value's length (all ones: null) and bytes; lengths
/// are 32 bits, little endian. Nothing for no headers.
pub(super) fn encode_headers(headers: &[(&[u8], Option<&[u8]>)], into: &mut Vec<u8>) {
    into.clear();
    for (name, value) in headers {
        into.extend_from_slice(&(name.len() as u32).to_le_bytes());
        into.extend_from_slice(name);
        into.extend_from_slice(&value.map_or(u32::MAX, |v| v.len() as u32).to_le_bytes());
        into.extend_from_slice(value.unwrap_or_default());
    }
}

/// One header: its name and value.
type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// The inverse of [`encode_headers`]; `None` for bytes it never wrote.
fn decode_headers(mut bytes: &[u8]) -> Option<Vec<Header<'_>>> {
    let mut headers = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        if length == u32::MAX {
            headers.push((name, None));
            bytes = rest;
        } else {
            let (value, rest) = rest.split_at_checked(length as usize)?;
            headers.push((name, Some(value)));
            bytes = rest;
        }
    }
    Some(headers)
}
