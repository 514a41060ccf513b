//! Whole numbers in any spelling that JSON has for them: clients in languages without whole numbers
//! send `100.0` or `1e2`.

use serde::de::{Deserializer, Error, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// The largest number up to which a float is a whole number that nothing was rounded to.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A whole number from a float that is one.
pub fn from_float(value: f64) -> Option<i128> {
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i128)
}

/// Reads a whole number, or null.
pub fn whole<'de, D: Deserializer<'de>, T: TryFrom<i128>>(
    reader: D,
) -> Result<Option<T>, D::Error> {
    read(reader, None)
}

/// As [`whole`], where -1 stands for 0: no limit.
pub fn count_or_all<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<usize>, D::Error> {
    read(reader, Some(0))
}

/// As [`whole`], where -1 stands for as many as there is room for.
pub fn count_or_room<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<usize>, D::Error> {
    read(reader, Some(AS_MANY_AS_FIT))
}

/// A number of tokens that means: as many as there is room for.
pub const AS_MANY_AS_FIT: usize = usize::MAX;

/// Reads a whole number, or null; -1 may stand for another one.
fn read<'de, D: Deserializer<'de>, T: TryFrom<i128>>(
    reader: D,
    minus_one: Option<T>,
) -> Result<Option<T>, D::Error> {
    struct Whole<T>(Option<T>, PhantomData<T>);

    impl<T: TryFrom<i128>> Whole<T> {
        fn take<E: Error>(self, value: i128) -> Result<Option<T>, E> {
            if value == -1 && self.0.is_some() {
                return Ok(self.0);
            }
            let number = T::try_from(value);
            let number = number.map_err(|_| E::custom(format!("{value} is outside the range")));
            number.map(Some)
        }
    }

    impl<T: TryFrom<i128>> Visitor<'_> for Whole<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a whole number or null")
        }

        fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<Option<T>, E> {
            self.take(value.into())
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<Option<T>, E> {
            self.take(value.into())
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<Option<T>, E> {
            let number = from_float(value);
            self.take(number.ok_or_else(|| E::custom(format!("{value} is no whole number")))?)
        }
    }
    reader.deserialize_any(Whole(minus_one, PhantomData))
}
