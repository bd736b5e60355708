//! Where memory comes from: a request at the edge asks for some forty times, and mimalloc saves a twentieth of its time.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives what this thread has freed back to the system. By itself the allocator does so when it is asked for memory the
/// next time, which a process that turns everybody away never does.
#[expect(unsafe_code, reason = "the crate has no safe name for it")]
pub(crate) fn give_back() {
    // SAFETY: it takes a flag, works on the heap of the calling thread, and frees only what is free.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
