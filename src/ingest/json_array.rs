//! JSON arrays an element at a time: as a whole they take many times the room of their text.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};

use super::ReadError;
use crate::flow::Refusal;

/// Hands each element of an array to `take`.
///
/// # Errors
/// A body that is no array of such elements, before any is taken; what `take` says.
pub(super) fn each_of_array<T: DeserializeOwned>(
    body: &[u8],
    mut take: impl FnMut(T) -> Result<(), Refusal>,
) -> Result<(), ReadError> {
    walk(body, &mut |_: T| Ok(()))?;
    walk(body, &mut take)
}

fn walk<T: DeserializeOwned>(body: &[u8], take: &mut dyn FnMut(T) -> Result<(), Refusal>) -> Result<(), ReadError> {
    let mut refusal = None;
    let mut reader = serde_json::Deserializer::from_slice(body);
    let each = Each { take, refusal: &mut refusal, of: PhantomData };
    let read = reader.deserialize_seq(each).and_then(|()| reader.end());
    match refusal {
        Some(refusal) => Err(refusal.into()),
        None => Ok(read?),
    }
}

struct Each<'t, T> {
    take: &'t mut dyn FnMut(T) -> Result<(), Refusal>,
    refusal: &'t mut Option<Refusal>,
    of: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> Visitor<'de> for Each<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            if let Err(refusal) = (self.take)(element) {
                *self.refusal = Some(refusal);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use serde::Deserialize;

    use super::*;

    thread_local! {
        /// Elements that are held, and the most that were.
        static HELD: Rc<(Cell<u32>, Cell<u32>)> = Rc::default();
    }

    /// Knows how many of its kind there are.
    struct Counted(u32);

    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
            let number = u32::deserialize(reader)?;
            HELD.with(|held| {
                held.0.set(held.0.get() + 1);
                held.1.set(held.1.get().max(held.0.get()));
            });
            Ok(Counted(number))
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            HELD.with(|held| held.0.set(held.0.get() - 1));
        }
    }

    #[test]
    fn one_element_is_held_at_a_time() {
        let mut sum = 0;
        each_of_array(b"[1, 2, 3, 4]", |counted: Counted| {
            sum += counted.0;
            Ok(())
        })
        .unwrap();
        assert_eq!((sum, HELD.with(|held| (held.0.get(), held.1.get()))), (10, (0, 1)));
    }

    #[test]
    fn nothing_is_taken_of_what_is_no_such_array() {
        for body in ["", "{}", "7", "[1", "[1,]", "[1] 2", "[1,\"2\"]", "[1,-2]"] {
            let read = each_of_array(body.as_bytes(), |_: u32| panic!("{body}"));
            assert!(matches!(read, Err(ReadError::Json(_))), "{body}");
        }
    }

    #[test]
    fn a_refusal_ends_it() {
        let mut taken = 0;
        let read = each_of_array(b"[1,2,3]", |number: u32| {
            taken = number;
            if number == 2 { Err(Refusal::Closed { reason: "test".to_owned() }) } else { Ok(()) }
        });
        assert!(matches!(read, Err(ReadError::Refused(_))) && taken == 2);
    }
}
