//! The program `plimsoll`; everything is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    small_pages();
    plimsoll::app::run()
}

/// Asks the kernel for no pages of 2 MiB: clearing them for memory that is used for a moment is half of what a load costs,
/// and they make what is resident half as large again.
fn small_pages() {
    // A kernel that cannot is slower, not wrong.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
}
