//! The **codec** of snapshots: a few ways to write a number, each with exactly one encoding, so that
//! equal states give equal bytes.
//!
//! Partials and aggregates write themselves with [`Writer`] and read themselves back with
//! [`Reader`]. Invariant: malformed bytes are an [`Error`], never a panic and never an allocation
//! larger than the bytes themselves.

/// Bytes that are no encoding: where, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the snapshot: expected {expected}")]
pub struct Error {
    pub at: usize,
    pub expected: &'static str,
}

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    pub fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// LEB128, shortest form.
    pub fn unsigned(&mut self, value: u64) {
        self.wide(u128::from(value));
    }

    /// LEB128 of the zigzag form: small magnitudes are short, whatever their sign.
    pub fn signed(&mut self, value: i64) {
        self.wide_signed(i128::from(value));
    }

    pub fn wide(&mut self, mut value: u128) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub fn wide_signed(&mut self, value: i128) {
        self.wide(((value << 1) ^ (value >> 127)) as u128);
    }

    /// Eight bytes, little endian; every NaN as the same one.
    pub fn float(&mut self, value: f64) {
        let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
        self.fixed(bits);
    }

    pub fn fixed(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Length, then the bytes.
    pub fn text(&mut self, value: &[u8]) {
        self.unsigned(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn expected<T>(&self, expected: &'static str) -> Result<T> {
        Err(Error { at: self.at, expected })
    }

    pub fn byte(&mut self, expected: &'static str) -> Result<u8> {
        let Some(&byte) = self.bytes.get(self.at) else { return self.expected(expected) };
        self.at += 1;
        Ok(byte)
    }

    pub fn unsigned(&mut self, expected: &'static str) -> Result<u64> {
        let value = self.wide(expected)?;
        u64::try_from(value).or_else(|_| self.expected(expected))
    }

    /// A number of records: no log is so long that adding a few such numbers overflows.
    pub fn tally(&mut self, expected: &'static str) -> Result<u64> {
        let value = self.unsigned(expected)?;
        if value > 1 << 56 { self.expected(expected) } else { Ok(value) }
    }

    pub fn signed(&mut self, expected: &'static str) -> Result<i64> {
        let value = self.wide_signed(expected)?;
        i64::try_from(value).or_else(|_| self.expected(expected))
    }

    pub fn wide(&mut self, expected: &'static str) -> Result<u128> {
        let mut value = 0u128;
        let mut shift = 0;
        loop {
            let byte = self.byte(expected)?;
            let bits = u128::from(byte & 0x7f);
            if shift > 126 || (shift == 126 && bits > 3) {
                return self.expected(expected);
            }
            value |= bits << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                // A last byte of zero could be left out: not the one encoding of this number.
                return if byte == 0 && shift > 7 { self.expected(expected) } else { Ok(value) };
            }
        }
    }

    pub fn wide_signed(&mut self, expected: &'static str) -> Result<i128> {
        let value = self.wide(expected)?;
        Ok((value >> 1) as i128 ^ -((value & 1) as i128))
    }

    pub fn float(&mut self, expected: &'static str) -> Result<f64> {
        let bits = self.fixed(expected)?;
        let value = f64::from_bits(bits);
        if value.is_nan() && bits != f64::NAN.to_bits() { self.expected(expected) } else { Ok(value) }
    }

    pub fn fixed(&mut self, expected: &'static str) -> Result<u64> {
        let Some((bytes, _)) = self.bytes[self.at..].split_first_chunk::<8>() else { return self.expected(expected) };
        self.at += 8;
        Ok(u64::from_le_bytes(*bytes))
    }

    pub fn text(&mut self, expected: &'static str) -> Result<&'a [u8]> {
        let len = self.count(expected)?;
        let text = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(text)
    }

    /// A number of things that take at least a byte each: never more than bytes are left.
    pub fn count(&mut self, expected: &'static str) -> Result<usize> {
        let count = self.unsigned(expected)?;
        if count > (self.bytes.len() - self.at) as u64 {
            return self.expected(expected);
        }
        Ok(count as usize)
    }

    /// Ends the reading: nothing may be left.
    pub fn end(&self) -> Result<()> {
        if self.at == self.bytes.len() { Ok(()) } else { self.expected("the end of the snapshot") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_reads_back(a: u64, b: i64, c: i128, d: f64, e: Vec<u8>) {
            let mut w = Writer::default();
            w.unsigned(a); w.signed(b); w.wide_signed(c); w.float(d); w.text(&e);
            let bytes = w.finish();
            let mut r = Reader::new(&bytes);
            prop_assert_eq!(r.unsigned("a"), Ok(a));
            prop_assert_eq!(r.signed("b"), Ok(b));
            prop_assert_eq!(r.wide_signed("c"), Ok(c));
            let float = r.float("d").unwrap();
            prop_assert!(float == d || (float.is_nan() && d.is_nan()));
            prop_assert_eq!(r.text("e"), Ok(&e[..]));
            prop_assert_eq!(r.end(), Ok(()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut r = Reader::new(&bytes);
            while r.text("text").is_ok() && r.wide("wide").is_ok() && r.float("float").is_ok() {}
        }
    }

    #[test]
    fn a_longer_form_of_the_same_number_is_refused() {
        assert!(Reader::new(&[0x80, 0x00]).wide("n").is_err());
        assert_eq!(Reader::new(&[0x80, 0x01]).wide("n"), Ok(128));
    }
}
