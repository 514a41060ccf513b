//! A matrix in columns that different threads may write.

use crate::simd::WIDTH;
use std::marker::PhantomData;

/// Some columns of a row-major matrix, which one task may write.
#[derive(Debug)]
pub struct ColumnBlock<'a> {
    data: *mut f32,
    pub(super) rows: usize,
    columns: usize,
    pub(super) stride: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: a block is the only way to its elements while it lives (see `ColumnBlocks`).
unsafe impl Send for ColumnBlock<'_> {}

/// Cuts a row-major matrix (`stride` columns) into blocks of `width` columns that can be written
/// by different threads.
pub fn column_blocks(data: &mut [f32], stride: usize, width: usize) -> ColumnBlocks<'_> {
    ColumnBlocks {
        rest: ColumnBlock {
            rows: data.len().checked_div(stride).unwrap_or(0),
            data: data.as_mut_ptr(),
            columns: stride,
            stride,
            owner: PhantomData,
        },
        width: width.max(1),
    }
}

/// The blocks of a matrix, from the left.
#[derive(Debug)]
pub struct ColumnBlocks<'a> {
    rest: ColumnBlock<'a>,
    width: usize,
}

impl<'a> Iterator for ColumnBlocks<'a> {
    type Item = ColumnBlock<'a>;

    fn next(&mut self) -> Option<ColumnBlock<'a>> {
        let columns = self.width.min(self.rest.columns);
        if columns == 0 {
            return None;
        }
        let block = ColumnBlock {
            columns,
            ..self.rest
        };
        self.rest.columns -= columns;
        // What is left starts after the block; past the last one the pointer is never used.
        self.rest.data = self.rest.data.wrapping_add(columns);
        Some(block)
    }
}

impl ColumnBlock<'_> {
    /// Columns of the block.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Where `rows` rows of panel `panel` start, if all 16 of its columns exist.
    pub(super) fn whole_panel(
        &mut self,
        row: usize,
        rows: usize,
        panel: usize,
    ) -> Option<*mut f32> {
        let first = panel * WIDTH;
        assert!(row + rows <= self.rows);
        // SAFETY: row and column are inside the block.
        (first + WIDTH <= self.columns).then(|| unsafe { self.data.add(row * self.stride + first) })
    }

    /// Where the columns of panel `panel` of row `row` start, and how many of the 16 exist.
    pub(super) fn panel(&mut self, row: usize, panel: usize) -> &mut [f32] {
        let first = panel * WIDTH;
        assert!(row < self.rows && first < self.columns);
        let count = WIDTH.min(self.columns - first);
        // SAFETY: row and column are inside the block, whose elements no other block has.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride + first), count) }
    }
}
