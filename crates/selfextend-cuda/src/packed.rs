//! Matrices in the block formats of GGUF, laid out for `kernels/linear.cu`.
//!
//! A file's blocks hold scales and codes side by side, in sizes that are not multiples of the 16
//! bytes of a load. Here each part has a plane of its own: low bits of codes, fifth and sixth bits,
//! scales, and what the scales of 256 columns have in common. No number changes. Four lanes share a
//! unit of one or four blocks of 32 columns; what a lane loads is contiguous.

use rayon::prelude::*;

/// Columns of a block.
const BLOCK: usize = 32;
/// Blocks of 32 columns in a block of the k-quants.
const SUPER: usize = 8;

/// A block format, named as ggml does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 4 bits around 8 and a scale.
    Q4_0,
    /// 4 bits, scale and minimum.
    Q4_1,
    /// 5 bits around 16 and a scale.
    Q5_0,
    /// 5 bits, scale and minimum.
    Q5_1,
    /// Signed bytes and a scale.
    Q8_0,
    /// 3 bits around 4; 6-bit scales of 16 columns. Takes 4 bits here.
    Q3K,
    /// 4 bits; 6-bit scales and minima of 32 columns, which take 8 bits here.
    Q4K,
    /// 5 bits; the same scales and minima.
    Q5K,
    /// 6 bits around 32; 8-bit scales of 16 columns.
    Q6K,
    /// 2 bits; scales and minima of 16 columns, 4 bits each.
    Q2K,
    /// 4 bits that stand for uneven numbers, and a scale.
    IQ4NL,
    /// The same; 6-bit scales of 32 columns, which take 8 bits here.
    IQ4XS,
    /// 4 bits that stand for floats, and a power of two.
    MXFP4,
}

impl Format {
    const ALL: [Self; 13] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Q2K,
        Self::IQ4NL,
        Self::IQ4XS,
        Self::MXFP4,
    ];

    /// How the kernels' names call it.
    fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q3K => "q3_k",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::Q2K => "q2_k",
            Self::IQ4NL => "iq4_nl",
            Self::IQ4XS => "iq4_xs",
            Self::MXFP4 => "mxfp4",
        }
    }

    /// Columns and bytes of a block in a file.
    fn block(self) -> (usize, usize) {
        match self {
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Q2K => (256, 84),
            Self::IQ4NL => (32, 18),
            Self::IQ4XS => (256, 136),
            Self::MXFP4 => (32, 17),
        }
    }

    fn is_super(self) -> bool {
        self.block().0 > BLOCK
    }

    /// Low and high bits of a code.
    fn bits(self) -> (usize, usize) {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q3K | Self::Q4K => (4, 0),
            Self::IQ4NL | Self::IQ4XS | Self::MXFP4 => (4, 0),
            Self::Q2K => (2, 0),
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => (4, 1),
            Self::Q6K => (4, 2),
            Self::Q8_0 => (8, 0),
        }
    }
}

/// A format with the blocks of a unit: a family of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    format: Format,
    blocks: usize,
}

/// The planes' sizes in bytes for one row.
type Sizes = [usize; 4];

impl Layout {
    /// Every layout there are kernels for.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let of = |blocks| move |format| Self { format, blocks };
        let short = Format::ALL.into_iter().filter(|format| !format.is_super());
        short.map(of(1)).chain(Format::ALL.into_iter().map(of(4)))
    }

    /// For rows of `columns`; `None` where blocks do not fit them.
    pub(crate) fn new(format: Format, columns: usize) -> Option<Self> {
        let fits = columns > 0 && columns.is_multiple_of(format.block().0);
        let blocks = if columns.is_multiple_of(4 * BLOCK) {
            4
        } else {
            1
        };
        fits.then_some(Self { format, blocks })
    }

    /// How the kernels' names call it.
    pub(crate) fn name(self) -> String {
        let wide = self.blocks > 1 && !self.format.is_super();
        format!("{}{}", self.format.name(), if wide { "_wide" } else { "" })
    }

    /// Whether units have four blocks, 128 columns.
    pub(crate) fn is_wide(self) -> bool {
        self.blocks == 4
    }

    /// The format of its blocks.
    pub(crate) fn format(self) -> Format {
        self.format
    }

    /// Lanes that a row takes.
    pub(crate) fn lanes(self, columns: usize) -> usize {
        columns / BLOCK / self.blocks * 4
    }

    /// Bytes of a row in a file.
    pub(crate) fn file_bytes(self, columns: usize) -> usize {
        let (block, bytes) = self.format.block();
        columns / block * bytes
    }

    /// Bytes of a row in each plane.
    fn sizes(self, columns: usize) -> Sizes {
        let blocks = columns / BLOCK;
        let (low, high) = self.format.bits();
        let (scales, supers) = match self.format {
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 | Format::IQ4NL => (2, 0),
            Format::Q4_1 | Format::Q5_1 => (4, 0),
            Format::Q3K | Format::Q6K => (2, 2),
            Format::Q4K | Format::Q5K | Format::Q2K => (2, 4),
            Format::IQ4XS => (1, 2),
            Format::MXFP4 => (1, 0),
        };
        [
            blocks * BLOCK * low / 8,
            blocks * BLOCK * high / 8,
            blocks * scales,
            blocks / SUPER * supers,
        ]
    }

    /// Where each plane of a matrix starts, and where the last ends.
    pub(crate) fn starts(self, rows: usize, columns: usize) -> [usize; 5] {
        // Aligned as allocations are: the kernels' loads need 16 bytes.
        const ALIGNMENT: usize = 256;
        let mut starts = [0; 5];
        for (n, size) in self.sizes(columns).into_iter().enumerate() {
            let end = starts[n] + rows * size;
            starts[n + 1] = if n < 3 {
                end.next_multiple_of(ALIGNMENT)
            } else {
                end
            };
        }
        starts
    }

    /// The planes of a matrix whose rows lie one after the other as in a file.
    pub(crate) fn pack(self, rows: usize, columns: usize, data: &[u8]) -> Vec<u8> {
        let (starts, sizes) = (self.starts(rows, columns), self.sizes(columns));
        let (block_columns, bytes) = self.format.block();
        let mut planes = vec![0; starts[4]];
        let puts = [
            Self::put_low,
            Self::put_high,
            Self::put_scales,
            Self::put_super,
        ];
        for (n, put) in puts.into_iter().enumerate().filter(|(n, _)| sizes[*n] > 0) {
            planes[starts[n]..][..rows * sizes[n]]
                .par_chunks_exact_mut(sizes[n])
                .zip(data.par_chunks_exact(self.file_bytes(columns)))
                .for_each(|(to, row)| {
                    for (n, block) in row.chunks_exact(bytes).enumerate() {
                        put(self, to, n * block_columns / BLOCK, block);
                    }
                });
        }
        planes
    }

    /// Calls `put` for each code of a file's block, the first of 32 columns being `first`, with
    /// its unit, strip, place among the eight columns of a block that a lane has, and number among
    /// the four of its half.
    fn each(self, first: usize, block: &[u8], mut put: impl FnMut(Place, u8)) {
        for (column, code) in codes(self.format, block).enumerate() {
            let (n, column) = (first + column / BLOCK, column % BLOCK);
            put(
                Place {
                    unit: n / self.blocks,
                    strip: column % 16 / 4,
                    half: n % self.blocks * 2 + column / 16,
                    byte: column % 4,
                },
                code,
            );
        }
    }

    fn put_low(self, to: &mut [u8], first: usize, block: &[u8]) {
        let (low, _) = self.format.bits();
        // A lane's words are loaded four at a time, by lanes that lie side by side.
        let words = self.blocks * low / 4;
        let vector = words.min(4);
        self.each(first, block, |place, code| {
            let (word, shift) = match low {
                2 => (place.half / 4, place.half % 4 * 2),
                4 => (place.half / 2, place.half % 2 * 4),
                _ => (place.half, 0),
            };
            let at = (place.unit * (words / vector) + word / vector) * 4 + place.strip;
            let bits = if low == 8 {
                code
            } else {
                code & ((1 << low) - 1)
            };
            to[(at * vector + word % vector) * 4 + place.byte] |= bits << shift;
        });
    }

    fn put_high(self, to: &mut [u8], first: usize, block: &[u8]) {
        let (_, high) = self.format.bits();
        self.each(first, block, |place, code| {
            let (word, bit) = match self.blocks {
                // One word for the four lanes of a block.
                1 => (place.unit, place.strip * 2 + place.half),
                _ => {
                    let lane = place.unit * 4 + place.strip;
                    (lane * high + place.half * high / 8, place.half * high % 8)
                }
            };
            to[word * 4 + place.byte] |= (code >> 4) << bit;
        });
    }

    fn put_scales(self, to: &mut [u8], first: usize, block: &[u8]) {
        match self.format {
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 | Format::IQ4NL => {
                to[2 * first..][..2].copy_from_slice(&block[..2]);
            }
            Format::MXFP4 => to[first] = block[0],
            // A scale in the lower half of each byte, a minimum in the upper.
            Format::Q2K => to[2 * first..][..16].copy_from_slice(&block[..16]),
            Format::Q4_1 | Format::Q5_1 => to[4 * first..][..4].copy_from_slice(&block[..4]),
            // Four scales, then four minima.
            Format::Q4K | Format::Q5K => {
                for n in 0..SUPER {
                    let (scale, minimum) = scale_and_minimum(&block[4..16], n);
                    let unit = &mut to[(first + n) / 4 * 8..];
                    (unit[n % 4], unit[4 + n % 4]) = (scale, minimum);
                }
            }
            // Signs flipped: 0 is -128.
            Format::Q3K => {
                for n in 0..2 * SUPER {
                    to[2 * first + n] = q3_scale(&block[96..108], n).wrapping_add(128);
                }
            }
            Format::IQ4XS => {
                for n in 0..SUPER {
                    to[first + n] = iq4_scale(block, n).wrapping_add(128);
                }
            }
            Format::Q6K => {
                let scales = to[2 * first..].iter_mut().zip(&block[192..208]);
                scales.for_each(|(to, scale)| *to = scale.wrapping_add(128));
            }
        }
    }

    fn put_super(self, to: &mut [u8], first: usize, block: &[u8]) {
        let (to, from) = match self.format {
            Format::Q4K | Format::Q5K => (&mut to[first / SUPER * 4..][..4], &block[..4]),
            Format::Q2K => (&mut to[first / SUPER * 4..][..4], &block[80..84]),
            Format::IQ4XS => (&mut to[first / SUPER * 2..][..2], &block[..2]),
            _ => (&mut to[first / SUPER * 2..][..2], &block[block.len() - 2..]),
        };
        to.copy_from_slice(from);
    }
}

/// Where a code lies.
struct Place {
    unit: usize,
    /// The lane of the unit.
    strip: usize,
    /// Which half of which block of the unit, as the lane counts them.
    half: usize,
    byte: usize,
}

/// The codes of a block of a file, column by column; those around a middle are counted from below.
fn codes(format: Format, block: &[u8]) -> impl Iterator<Item = u8> {
    let bit = |bytes: &[u8], n: usize| bytes[n / 8] >> (n % 8) & 1;
    // Low halves of bytes, then their high halves.
    let nibble = |bytes: &[u8], run: usize, n: usize| {
        let byte = bytes[n / (2 * run) * run + n % run];
        byte >> (n % (2 * run) / run * 4) & 15
    };
    (0..format.block().0).map(move |n| match format {
        Format::Q4_0 | Format::IQ4NL => nibble(&block[2..], 16, n),
        Format::MXFP4 => nibble(&block[1..], 16, n),
        Format::IQ4XS => nibble(&block[8..], 16, n),
        Format::Q2K => block[16 + n / 128 * 32 + n % 32] >> (n % 128 / 32 * 2) & 3,
        Format::Q4_1 => nibble(&block[4..], 16, n),
        Format::Q5_0 => nibble(&block[6..], 16, n) | bit(&block[2..], n) << 4,
        Format::Q5_1 => nibble(&block[8..], 16, n) | bit(&block[4..], n) << 4,
        Format::Q8_0 => block[2 + n],
        Format::Q4K => nibble(&block[16..], 32, n),
        Format::Q5K => nibble(&block[48..], 32, n) | (block[16 + n % 32] >> (n / 32) & 1) << 4,
        Format::Q6K => {
            let high = block[128 + n / 128 * 32 + n % 32] >> (n % 128 / 32 * 2) & 3;
            nibble(block, 64, n) | high << 4
        }
        // Around 8, as all that have four bits.
        Format::Q3K => {
            let low = block[32 + n / 128 * 32 + n % 32] >> (n % 128 / 32 * 2) & 3;
            let high = block[n % 32] >> (n / 32) & 1;
            low + 4 + 4 * high
        }
    })
}

/// Of Q4_K and Q5_K: eight pairs of 6 bits in 12 bytes, the last four of each with their upper two
/// bits in the upper bits of the first four.
fn scale_and_minimum(packed: &[u8], n: usize) -> (u8, u8) {
    match n {
        0..4 => (packed[n] & 63, packed[n + 4] & 63),
        _ => (
            packed[n + 4] & 15 | packed[n - 4] >> 6 << 4,
            packed[n + 4] >> 4 | packed[n] >> 6 << 4,
        ),
    }
}

/// Of Q3_K: sixteen scales of 6 bits around 32, lower four bits in the first eight bytes, upper two
/// in the last four.
fn q3_scale(packed: &[u8], n: usize) -> u8 {
    let lower = packed[n % 8] >> (n / 8 * 4) & 15;
    let upper = packed[8 + n % 4] >> (n / 4 * 2) & 3;
    (lower | upper << 4).wrapping_sub(32)
}

/// Of IQ4_XS: eight scales of 6 bits around 32, their upper two bits in a word, the lower four in the
/// halves of four bytes.
fn iq4_scale(block: &[u8], n: usize) -> u8 {
    let upper = u16::from_le_bytes([block[2], block[3]]) >> (2 * n) & 3;
    let lower = block[4 + n / 2] >> (n % 2 * 4) & 15;
    (lower | (upper as u8) << 4).wrapping_sub(32)
}
