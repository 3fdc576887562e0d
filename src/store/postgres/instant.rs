//! An [`Instant`]: [`Micros`] as `timestamptz`, exact to the microsecond both ways.
//!
//! Invariant: what is written lies in [`Micros::MIN`]..=[`Micros::MAX`]; a record's timestamp beyond it becomes the bound.

use crate::time::Micros;
use bytes::{BufMut, BytesMut};
use std::error::Error;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// 2000-01-01T00:00:00Z, from which Postgres counts.
const EPOCH: i64 = 946_684_800_000_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Instant(pub Micros);

impl ToSql for Instant {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0.clamp(Micros::MIN, Micros::MAX).0 - EPOCH);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Instant {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Instant(Micros(i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH))))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}
