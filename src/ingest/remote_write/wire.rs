//! Protobuf's wire format, read where it lies: fields one after the other, nothing copied, nothing built.
//!
//! ```text
//! message  field*
//! field    key, value
//! key      varint: number of the field << 3 | type
//! value    0 varint   1 eight bytes   2 length as varint, bytes   5 four bytes
//! ```
//!
//! Own and not `prost`'s, whose messages own their texts: a request of two thousand series has sixteen thousand of them,
//! and all but a few were seen before.

/// The NaN by which Prometheus says that a series ended.
pub(in crate::ingest) const STALE: u64 = 0x7FF0_0000_0000_0002;

/// The bytes are cut off, or are no protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ingest) struct Broken;

/// A field's value. Groups, which nobody writes any more, are [`Broken`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::ingest) enum Value<'b> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32,
    Bytes(&'b [u8]),
}

impl Value<'_> {
    /// As a `double`; `None` where it is none.
    pub fn double(self) -> Option<f64> {
        match self {
            Value::Fixed64(bytes) => Some(f64::from_le_bytes(bytes)),
            _ => None,
        }
    }

    /// As a `sint32` or `sint64`.
    pub fn zigzag(self) -> Option<i64> {
        match self {
            Value::Varint(number) => Some(unzigzag(number)),
            _ => None,
        }
    }
}

/// The fields of a message.
#[derive(Debug, Clone, Copy)]
pub(in crate::ingest) struct Message<'b> {
    rest: &'b [u8],
}

impl<'b> Message<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Message { rest: bytes }
    }

    /// Bytes that were not read yet.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next field's number and value; `None` at the end.
    #[inline]
    pub fn next(&mut self) -> Result<Option<(u64, Value<'b>)>, Broken> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = varint(&mut self.rest)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => {
                let (bytes, rest) = self.rest.split_first_chunk().ok_or(Broken)?;
                self.rest = rest;
                Value::Fixed64(*bytes)
            }
            2 => Value::Bytes(bytes(&mut self.rest)?),
            5 => {
                self.rest = self.rest.get(4..).ok_or(Broken)?;
                Value::Fixed32
            }
            _ => return Err(Broken),
        };
        Ok(Some((key >> 3, value)))
    }
}

/// Takes a number off the front.
#[inline]
pub(in crate::ingest) fn varint(rest: &mut &[u8]) -> Result<u64, Broken> {
    match **rest {
        [byte, ..] if byte < 0x80 => {
            *rest = &rest[1..];
            Ok(u64::from(byte))
        }
        _ => long_varint(rest),
    }
}

fn long_varint(rest: &mut &[u8]) -> Result<u64, Broken> {
    let mut number = 0;
    for (at, &byte) in rest.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7F) << (7 * at);
        if byte < 0x80 {
            *rest = &rest[at + 1..];
            return Ok(number);
        }
    }
    Err(Broken)
}

/// Takes a length and as many bytes off the front.
#[inline]
pub(in crate::ingest) fn bytes<'b>(rest: &mut &'b [u8]) -> Result<&'b [u8], Broken> {
    let length = usize::try_from(varint(rest)?).map_err(|_| Broken)?;
    let (taken, after) = rest.split_at_checked(length).ok_or(Broken)?;
    *rest = after;
    Ok(taken)
}

/// What `sint32` and `sint64` mean: 0, -1, 1, -2, …
pub(in crate::ingest) const fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// The numbers of a repeated field, packed or one by one.
pub(in crate::ingest) fn each_varint(value: Value<'_>, mut each: impl FnMut(u64)) -> Result<(), Broken> {
    match value {
        Value::Varint(number) => each(number),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                each(varint(&mut packed)?);
            }
        }
        _ => return Err(Broken),
    }
    Ok(())
}

/// The same of `double`s.
pub(in crate::ingest) fn each_double(value: Value<'_>, mut each: impl FnMut(f64)) -> Result<(), Broken> {
    match value {
        Value::Fixed64(bytes) => each(f64::from_le_bytes(bytes)),
        Value::Bytes(packed) => {
            let (doubles, rest) = packed.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(Broken);
            }
            doubles.iter().for_each(|bytes| each(f64::from_le_bytes(*bytes)));
        }
        _ => return Err(Broken),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::encoding::encode_varint;

    use super::*;

    #[test]
    fn numbers_of_every_length_are_read_as_they_were_written() {
        let mut numbers = vec![0, 1, u64::MAX];
        numbers.extend((1..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit]));
        for number in numbers {
            let mut bytes = Vec::new();
            encode_varint(number, &mut bytes);
            bytes.push(7);
            let mut rest = &bytes[..];
            assert_eq!(varint(&mut rest), Ok(number));
            assert_eq!(rest, [7]);
            for cut in 0..bytes.len() - 1 {
                assert_eq!(varint(&mut &bytes[..cut]), Err(Broken), "{number} cut to {cut}");
            }
        }
        assert_eq!(varint(&mut &[0xFF; 11][..]), Err(Broken), "a number without an end");
    }

    #[test]
    fn every_type_of_field_is_read() {
        let bytes = [
            0x08, 0x05, // 1: 5
            0x11, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F, // 2: 1.0
            0x1A, 0x02, 0xAA, 0xBB, // 3: bytes
            0x25, 1, 2, 3, 4, // 4: four bytes
        ];
        let mut message = Message::new(&bytes);
        assert_eq!(message.next(), Ok(Some((1, Value::Varint(5)))));
        assert_eq!(message.next().unwrap().and_then(|(number, value)| Some((number, value.double()?))), Some((2, 1.0)));
        assert_eq!(message.next(), Ok(Some((3, Value::Bytes(&[0xAA, 0xBB])))));
        assert_eq!(message.next(), Ok(Some((4, Value::Fixed32))));
        assert_eq!(message.next(), Ok(None));
        let whole = [2, 11, 15, 20];
        for cut in (1..bytes.len()).filter(|cut| !whole.contains(cut)) {
            let mut message = Message::new(&bytes[..cut]);
            let broken = std::iter::repeat_with(|| message.next()).find(|next| !matches!(next, Ok(Some(_))));
            assert_eq!(broken, Some(Err(Broken)), "cut to {cut}");
        }
        assert_eq!(Message::new(&[0x0B]).next(), Err(Broken), "a group");
    }

    #[test]
    fn small_numbers_of_either_sign_are_small() {
        assert_eq!([0, 1, 2, 3, u64::MAX].map(unzigzag), [0, -1, 1, -2, i64::MIN]);
    }
}
