//! Counts what the threads of portway allocate, and what they still hold.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Each size up to this is counted separately; larger ones are counted by the next power of two.
const EXACT: usize = 4096;
const SIZES: usize = EXACT + 1 + usize::BITS as usize;
/// Alignments of 1 to 128, the largest that tokio asks for.
const ALIGNMENTS: usize = 8;

/// Allocations of the workers since the start.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
/// The blocks of the whole process now: often another thread frees a block than the one that allocated it.
static LIVE: Counts = Counts::new();
/// The counts that [`grown`] compares. On the heap they would count themselves.
static BEFORE: Counts = Counts::new();
static AFTER: Counts = Counts::new();

/// Allocated memory: the sum, and how many blocks of each alignment and size.
struct Counts {
    bytes: AtomicI64,
    blocks: [[AtomicI64; SIZES]; ALIGNMENTS],
}

impl Counts {
    #[expect(
        clippy::large_stack_arrays,
        reason = "only statics use it, at compile time"
    )]
    const fn new() -> Self {
        Self {
            bytes: AtomicI64::new(0),
            blocks: [const { [const { AtomicI64::new(0) }; SIZES] }; ALIGNMENTS],
        }
    }

    fn add(&self, layout: Layout, change: i64) {
        let power = layout.align().trailing_zeros() as usize;
        let bytes = i64::try_from(layout.size()).unwrap_or(i64::MAX);
        self.bytes.fetch_add(change * bytes, Ordering::SeqCst);
        let sizes = self.blocks.get(power.min(ALIGNMENTS - 1));
        if let Some(count) = sizes.and_then(|sizes| sizes.get(class(layout.size()))) {
            count.fetch_add(change, Ordering::SeqCst);
        }
    }

    fn all(&self) -> impl Iterator<Item = &AtomicI64> {
        self.blocks.iter().flatten().chain([&self.bytes])
    }

    fn copy_from(&self, other: &Self) {
        for (to, from) in self.all().zip(other.all()) {
            to.store(from.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }
}

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// The allocations of the workers so far.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) allocations: u64,
    pub(crate) bytes: u64,
}

/// The allocations of the workers so far.
pub(crate) fn asked() -> Asked {
    Asked {
        allocations: ALLOCATIONS.load(Ordering::SeqCst),
        bytes: BYTES.load(Ordering::SeqCst),
    }
}

/// The memory that the process holds after some work and did not hold before.
pub(crate) struct Grown {
    pub(crate) bytes: i64,
    /// Size, alignment, and how many more.
    pub(crate) blocks: Vec<(usize, usize, i64)>,
}

/// Does some work, and returns what is still allocated after it. Only one call may run at a time.
pub(crate) fn grown(work: impl FnOnce()) -> Grown {
    BEFORE.copy_from(&LIVE);
    work();
    AFTER.copy_from(&LIVE);
    let change = |after: &AtomicI64, before: &AtomicI64| {
        after.load(Ordering::SeqCst) - before.load(Ordering::SeqCst)
    };
    let mut blocks = Vec::new();
    for (power, (after, before)) in AFTER.blocks.iter().zip(&BEFORE.blocks).enumerate() {
        for (class, (after, before)) in after.iter().zip(before).enumerate() {
            let count = change(after, before);
            if count != 0 {
                blocks.push((size_of_class(class), 1 << power, count));
            }
        }
    }
    blocks.sort_unstable();
    Grown {
        bytes: change(&AFTER.bytes, &BEFORE.bytes),
        blocks,
    }
}

const fn class(size: usize) -> usize {
    if size <= EXACT {
        size
    } else {
        EXACT + 1 + size.next_power_of_two().trailing_zeros() as usize
    }
}

const fn size_of_class(class: usize) -> usize {
    if class <= EXACT {
        class
    } else {
        1 << (class - EXACT - 1)
    }
}

/// The system's allocator, with counts.
struct Counting;

/// Whether this thread is a worker: its name is `portway-` and a number.
fn is_worker() -> bool {
    // A thread gets its name when it already runs, so only a positive answer is remembered.
    if !IS_WORKER.get() {
        let mut name = [0_u8; 16];
        // SAFETY: PR_GET_NAME writes at most 16 bytes, and `name` has them.
        #[expect(unsafe_code, reason = "the safe ways to read the name allocate")]
        unsafe {
            libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr());
        }
        let number = name.strip_prefix(b"portway-").and_then(<[u8]>::first);
        IS_WORKER.set(number.is_some_and(u8::is_ascii_digit));
    }
    IS_WORKER.get()
}

#[expect(unsafe_code, reason = "a global allocator needs unsafe code")]
// SAFETY: every call goes to the system's allocator unchanged, and counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_worker() {
            ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
            BYTES.fetch_add(layout.size() as u64, Ordering::SeqCst);
        }
        LIVE.add(layout, 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.add(layout, -1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
