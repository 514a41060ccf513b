//! Files written by `tests/common/gguf.rs`, whole and damaged.

#[path = "../../tests/common/gguf.rs"]
mod write;

use super::{GgufFile, Value};
use crate::error::Error;
use crate::tensor::TensorFormat;
use crate::weights::Checkpoint;
use rayon::prelude::*;
use write::{Field, Tensor, file};

const NO_FIELDS: &[(&str, Field)] = &[];
const NO_TENSORS: &[(&str, Tensor)] = &[];

/// A file of some bytes, opened.
fn open(bytes: &[u8]) -> Result<GgufFile, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    GgufFile::open(&path)
}

fn refused(bytes: &[u8], words: &[&str]) {
    let error = match open(bytes) {
        Ok(_) => panic!("opened; {words:?} expected"),
        Err(error) => error.to_string(),
    };
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

/// A scalar of a type by its number.
fn scalar(kind: u32, bytes: &[u8]) -> Field {
    let bytes = bytes.to_vec();
    Field { kind, bytes }
}

/// An integer in every type that GGUF has for one.
fn integers(n: u8) -> impl Iterator<Item = Field> {
    let types = [
        (0, 1),
        (1, 1),
        (2, 2),
        (3, 2),
        (4, 4),
        (5, 4),
        (10, 8),
        (11, 8),
    ];
    types.into_iter().map(move |(kind, size)| {
        let mut bytes = vec![0; size];
        bytes[0] = n;
        scalar(kind, &bytes)
    })
}

fn numbers(n: f32) -> Tensor {
    Tensor::f32(&[16, 32], &[n; 512])
}

fn floats(gguf: &GgufFile, name: &str) -> Vec<f32> {
    gguf.tensor(name).unwrap().unwrap().to_floats()
}

#[test]
fn an_alignment_of_any_integer_type_is_obeyed() {
    for field in integers(64) {
        // 5 numbers: the next tensor starts elsewhere for another alignment.
        let tensors = [("a", Tensor::f32(&[5], &[1.0; 5])), ("b", numbers(2.0))];
        let bytes = file(64, &[("general.alignment", field.clone())], &tensors);
        let gguf = open(&bytes).unwrap();
        assert_eq!(floats(&gguf, "a"), [1.0; 5], "type {}", field.kind);
        assert_eq!(floats(&gguf, "b"), [2.0; 512], "type {}", field.kind);
    }
}

#[test]
fn an_alignment_that_is_not_a_power_of_two_is_refused() {
    for field in integers(0).chain(integers(48)).chain([
        scalar(5, &(-32i32).to_le_bytes()),
        scalar(7, &[1]),
        Field::f32(32.0),
        Field::text("32"),
        Field::i32s([32]),
    ]) {
        let bytes = file(32, &[("general.alignment", field)], NO_TENSORS);
        refused(&bytes, &["general.alignment should be a power of two"]);
    }
}

/// The key in a vocabulary is text.
#[test]
fn a_token_may_be_called_like_a_key() {
    let tokens = Field::texts(["general.alignment", "\u{4}\0", "ab"]);
    let fields = [("tokenizer.ggml.tokens", tokens)];
    let gguf = open(&file(32, &fields, &[("w", numbers(3.0))])).unwrap();
    assert_eq!(floats(&gguf, "w"), [3.0; 512]);
}

#[test]
fn strings_are_kept_byte_for_byte() {
    let tokens = [&b"\0"[..], b"a\0", b"", b"\xFF\xFE", "ü".as_bytes()];
    let not_text = scalar(8, &[&2u64.to_le_bytes()[..], b"\xFF\0"].concat());
    let fields = [("tokens", Field::texts(tokens)), ("key", not_text)];
    let gguf = open(&file(32, &fields, NO_TENSORS)).unwrap();
    let array = gguf.metadata().get("tokens").and_then(Value::as_array);
    assert!(array.unwrap().strings().unwrap().eq(tokens));
    assert!(array.unwrap().integers().is_none());
    let value = gguf.metadata().get("key").unwrap();
    assert_eq!(value, &Value::Bytes(b"\xFF\0".to_vec()));
    let error = gguf.string("key").unwrap_err().to_string();
    assert!(error.contains("key should be a string"), "{error}");
}

#[test]
fn integers_of_every_width_are_sizes() {
    for field in integers(7) {
        let gguf = open(&file(32, &[("n", field)], NO_TENSORS)).unwrap();
        assert_eq!(gguf.size("n").unwrap(), Some(7));
        assert!(gguf.number("n").is_err());
    }
    for field in [
        scalar(5, &(-1i32).to_le_bytes()),
        scalar(10, &(1u64 << 32).to_le_bytes()),
        Field::f32(7.0),
        Field::text("7"),
    ] {
        let gguf = open(&file(32, &[("n", field)], NO_TENSORS)).unwrap();
        let error = gguf.size("n").unwrap_err().to_string();
        assert!(error.contains("n should be a size"), "{error}");
    }
    for field in [Field::f32(0.5), scalar(12, &0.5f64.to_le_bytes())] {
        let gguf = open(&file(32, &[("x", field)], NO_TENSORS)).unwrap();
        assert_eq!(gguf.number("x").unwrap(), Some(0.5));
    }
}

#[test]
fn other_versions_and_byte_orders_are_refused_by_name() {
    let whole = file(32, NO_FIELDS, NO_TENSORS);
    assert!(open(&whole).is_ok());
    let with = |version: [u8; 4]| [&whole[..4], &version, &whole[8..]].concat();
    assert!(open(&with(2u32.to_le_bytes())).is_ok());
    refused(&with(3u32.to_be_bytes()), &["big-endian", "not supported"]);
    refused(&with(1u32.to_le_bytes()), &["version 1", "not supported"]);
    refused(&with(4u32.to_le_bytes()), &["version 4", "not supported"]);
    refused(b"GGML, and more than its header", &["not a GGUF file"]);
    refused(b"GGUF", &["not a GGUF file"]);
}

#[test]
fn tensor_types_that_are_not_read_are_named_with_those_that_are() {
    for (kind, name) in [
        (24, "type 24 (I8)"),
        (41, "type 41 (Q1_0)"),
        (77, "type 77"),
    ] {
        let tensor = Tensor {
            kind,
            ..numbers(0.0)
        };
        let bytes = file(32, NO_FIELDS, &[("blk.3.w", tensor)]);
        refused(
            &bytes,
            &[
                "tensor blk.3.w",
                name,
                "not supported",
                "Q4_K",
                "BF16",
                "IQ4_XS",
            ],
        );
    }
}

#[test]
fn what_is_there_twice_is_refused_by_name() {
    let fields = [("a.key", Field::u32(1)), ("a.key", Field::u32(2))];
    refused(&file(32, &fields, NO_TENSORS), &["a.key", "twice"]);
    let tensors = [("w", numbers(1.0)), ("w", numbers(2.0))];
    refused(&file(32, NO_FIELDS, &tensors), &["tensor w", "twice"]);
}

/// The offset of the only tensor in a file without fields.
fn with_offset(offset: u64) -> Vec<u8> {
    let mut bytes = file(32, NO_FIELDS, &[("w", numbers(1.0))]);
    let at = 24 + 8 + 1 + 4 + 16 + 4;
    bytes[at..at + 8].copy_from_slice(&offset.to_le_bytes());
    bytes.resize(bytes.len() + 4096, 0);
    bytes
}

#[test]
fn tensors_in_impossible_places_are_refused_by_name() {
    assert!(open(&with_offset(32)).is_ok());
    refused(&with_offset(8), &["tensor w", "alignment"]);
    refused(&with_offset(8192), &["tensor w", "truncated"]);
    refused(&with_offset(u64::MAX / 32 * 32), &["tensor w", "truncated"]);
    let tensors = [("a", numbers(1.0)), ("b", numbers(2.0))];
    let mut bytes = file(32, NO_FIELDS, &tensors);
    // The second tensor's offset.
    let at = 24 + 2 * (8 + 1 + 4 + 16 + 4 + 8) - 8;
    bytes[at..at + 8].copy_from_slice(&32u64.to_le_bytes());
    refused(&bytes, &["tensors a and b overlap"]);
}

#[test]
fn impossible_shapes_are_refused() {
    let tensor = |shape: &[usize], bytes| Tensor {
        kind: 2,
        shape: shape.into(),
        bytes,
    };
    let open_one = |tensor| file(32, NO_FIELDS, &[("w", tensor)]);
    assert!(open(&open_one(tensor(&[8, 32], vec![0; 144]))).is_ok());
    // As many numbers, but rows that end within a block.
    let words = ["tensor w", "impossible shape", "Q4_0"];
    refused(&open_one(tensor(&[16, 16], vec![0; 144])), &words);
    let huge = 1 << 62;
    refused(&open_one(tensor(&[huge, huge, 32], vec![0; 144])), &words);
    refused(
        &open_one(tensor(&[huge], vec![0; 144])),
        &["tensor w", "truncated"],
    );
    refused(
        &open_one(tensor(&[1; 5], vec![0; 144])),
        &["tensor w", "5 dimensions"],
    );
    // No numbers, but the product of the other lengths overflows.
    let gguf = open(&open_one(tensor(&[huge, huge, 0], vec![]))).unwrap();
    assert_eq!(gguf.tensors().next().unwrap().elements, 0);
    assert!(gguf.tensor("w").is_err());
}

/// A length that the file does not hold is an error before anything is allocated for it.
#[test]
fn lengths_beyond_the_file_are_refused_by_key() {
    let huge = u64::MAX.to_le_bytes();
    let some = 1_000_000_000_000u64.to_le_bytes();
    for length in [huge, some] {
        let mut fields = vec![scalar(8, &length)];
        for kind in (0..=8).chain(10..=12) {
            fields.push(scalar(9, &[&u32::to_le_bytes(kind)[..], &length].concat()));
        }
        for field in fields {
            let bytes = file(32, &[("a.key", field)], NO_TENSORS);
            refused(&bytes, &["a.key", "bytes", "are left"]);
        }
        for at in [8, 16] {
            let mut bytes = file(32, &[("a.key", Field::u32(1))], &[("w", numbers(1.0))]);
            bytes[at..at + 8].copy_from_slice(&length);
            assert!(open(&bytes).is_err());
        }
    }
}

#[test]
fn values_that_gguf_does_not_define_are_refused_by_key() {
    let nested = [&9u32.to_le_bytes()[..], &0u64.to_le_bytes()].concat();
    for (field, word) in [
        (scalar(13, &[0; 8]), "type 13"),
        (
            scalar(9, &[&99u32.to_le_bytes()[..], &[0; 8]].concat()),
            "type 99",
        ),
        (scalar(9, &nested), "array of arrays"),
        (scalar(7, &[2]), "not true or false"),
        (Field::array(7, 2, vec![1, 2]), "not true or false"),
    ] {
        refused(&file(32, &[("a.key", field)], NO_TENSORS), &["a.key", word]);
    }
}

#[test]
fn files_cut_anywhere_are_refused() {
    let fields = [
        ("a", Field::texts(["x", "yz"])),
        ("b", Field::i32s([1, 2])),
        ("c", Field::text("text")),
        ("d", scalar(10, &[0; 8])),
    ];
    let whole = file(32, &fields, &[("w", numbers(1.0)), ("v", numbers(2.0))]);
    assert!(open(&whole).is_ok());
    for len in 0..whole.len() {
        assert!(open(&whole[..len]).is_err(), "cut after {len} bytes");
    }
}

#[test]
fn the_header_says_what_each_tensor_is() {
    let tensors = [
        ("b", Tensor::q4_0(&[4, 64], &[0.0; 256])),
        ("a", numbers(1.0)),
    ];
    let gguf = open(&file(32, NO_FIELDS, &tensors)).unwrap();
    let infos: Vec<_> = gguf.tensors().collect();
    assert_eq!(infos.len(), 2);
    assert_eq!((infos[1].name, &*infos[1].format), ("b", "Q4_0"));
    assert_eq!((infos[1].elements, infos[1].bytes), (256, 8 * 18));
    let raw = gguf.tensor("b").unwrap().unwrap();
    assert_eq!(
        (raw.format, raw.rows, raw.columns),
        (TensorFormat::Q4_0, 4, 64)
    );
    assert!(gguf.tensor("c").unwrap().is_none());
}

/// Every tensor holds its own number; a read that starts in another's place is seen.
#[test]
fn tensors_read_by_several_threads_are_not_mixed_up() {
    let tensors: Vec<_> = (0..200)
        .map(|n| (n.to_string(), numbers(n as f32)))
        .collect();
    let gguf = open(&file(32, NO_FIELDS, &tensors)).unwrap();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(8)
        .build()
        .unwrap();
    pool.install(|| {
        (0..2000usize).into_par_iter().for_each(|n| {
            let numbers = floats(&gguf, &(n % 200).to_string());
            assert!(numbers.iter().all(|&number| number == (n % 200) as f32));
        });
    });
}

/// Part `n` of `count` with a tensor of its own, as `gguf-split` writes it.
fn part(n: usize, count: usize, others: &[(&str, Field)], name: &str) -> Vec<u8> {
    let word = |n: usize| scalar(2, &(n as u16).to_le_bytes());
    let total = scalar(5, &(count as u32).to_le_bytes());
    let mut fields = vec![
        ("split.no", word(n)),
        ("split.count", word(count)),
        ("split.tensors.count", total),
    ];
    fields.extend(others.iter().map(|(key, field)| (*key, field.clone())));
    file(32, &fields, &[(name, numbers(n as f32))])
}

/// A folder with the three parts of `m`, some of them changed.
fn parts(change: impl Fn(usize) -> Option<Vec<u8>>) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = |n: usize| folder.path().join(format!("m-0000{}-of-00003.gguf", n + 1));
    for n in 0..3 {
        let key = [("a.key", Field::u32(7))];
        let others = if n == 0 { key.as_slice() } else { NO_FIELDS };
        let bytes = change(n).unwrap_or_else(|| part(n, 3, others, &n.to_string()));
        if !bytes.is_empty() {
            std::fs::write(path(n), bytes).unwrap();
        }
    }
    let first = path(0);
    (folder, first)
}

#[test]
fn the_parts_of_a_split_file_are_one() {
    let (_folder, first) = parts(|_| None);
    let gguf = GgufFile::open(&first).unwrap();
    assert_eq!(gguf.size("a.key").unwrap(), Some(7));
    assert_eq!(gguf.tensors().count(), 3);
    for n in 0..3 {
        let numbers = floats(&gguf, &n.to_string());
        assert!(numbers.iter().all(|&number| number == n as f32), "{n}");
    }
    let names = gguf.files().map(|path| path.file_name().unwrap());
    let expected = [1, 2, 3].map(|n| format!("m-0000{n}-of-00003.gguf"));
    assert!(names.eq(expected.iter().map(std::ffi::OsStr::new)));
}

#[test]
fn parts_that_do_not_belong_together_are_refused_by_name() {
    let in_second = |bytes: Vec<u8>| move |n: usize| (n == 1).then(|| bytes.clone());
    let keys = [("a.key", Field::u32(8))];
    let cases: [(Vec<u8>, &[&str]); 6] = [
        (
            Vec::new(),
            &["m-00002-of-00003.gguf", "missing", "part 2 of 3"],
        ),
        (
            part(2, 3, NO_FIELDS, "1"),
            &["m-00002", "not part 2 of 3", "split.no is 2"],
        ),
        (part(1, 4, NO_FIELDS, "1"), &["m-00002", "split.count 4"]),
        (
            part(1, 3, &keys, "1"),
            &["m-00002", "a.key is 8", "first part"],
        ),
        (
            part(1, 3, NO_FIELDS, "0"),
            &["m-00002", "tensor 0", "earlier part"],
        ),
        (
            file(32, NO_FIELDS, &[("1", numbers(1.0))]),
            &["m-00002", "missing"],
        ),
    ];
    for (second, words) in cases {
        let (_folder, first) = parts(in_second(second));
        let error = GgufFile::open(&first).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
    }
    // A tensor too few; a name that does not find the others; a part that is not the first.
    let empty = file(
        32,
        &[("split.no", Field::u32(1)), ("split.count", Field::u32(3))],
        NO_TENSORS,
    );
    let (folder, first) = parts(in_second(empty));
    let error = GgufFile::open(&first).unwrap_err().to_string();
    assert!(
        error.contains("have 2 tensors, but split.tensors.count is 3"),
        "{error}"
    );
    let renamed = folder.path().join("m.gguf");
    std::fs::copy(&first, &renamed).unwrap();
    let error = GgufFile::open(&renamed).unwrap_err().to_string();
    assert!(
        error.contains("part 1 of 3") && error.contains("-00001-of-00003.gguf"),
        "{error}"
    );
    let third = folder.path().join("m-00003-of-00003.gguf");
    let error = GgufFile::open(&third).unwrap_err().to_string();
    assert!(
        error.contains("part 3 of 3; name the first one, m-00001-of-00003.gguf"),
        "{error}"
    );
}
