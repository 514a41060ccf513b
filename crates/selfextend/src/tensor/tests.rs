//! Every format against the `gguf` package: tools/make_blocks.py wrote the blocks and its numbers.

use super::{RawTensor, TensorFormat, dequantize};
use crate::test_support::blocks;

#[test]
fn numbers_are_those_of_the_gguf_package_bit_for_bit() {
    for format in TensorFormat::ALL {
        let (data, expected) = blocks(format);
        let floats = dequantize(format, &data);
        assert_eq!(floats.len(), expected.len(), "{format}");
        for (n, (a, e)) in floats.iter().zip(&expected).enumerate() {
            assert_eq!(
                a.to_bits(),
                e.to_bits(),
                "{format}, number {n}: {a} for {e}"
            );
        }
    }
}

#[test]
fn bytes_that_do_not_fit_the_shape_are_refused() {
    let tensor = |columns, bytes| RawTensor {
        name: "w".into(),
        format: TensorFormat::Q4_0,
        rows: 3,
        columns,
        data: vec![0; bytes],
    };
    assert_eq!(tensor(64, 3 * 36).check(), Ok(()));
    let error = tensor(64, 3 * 36 - 1).check().unwrap_err();
    assert!(
        error.contains("107 bytes") && error.contains("takes 108"),
        "{error}"
    );
    assert!(tensor(48, 81).check().is_err());
    assert!(tensor(usize::MAX / 32 * 32, 81).check().is_err());
}
