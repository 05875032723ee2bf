//! The program `plimsoll`; everything is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    small_pages();
    give_back_soon();
    plimsoll::app::run()
}

/// Asks the kernel for no pages of 2 MiB: clearing them for memory that is used for a moment is half of what a load costs,
/// and they make what is resident half as large again.
fn small_pages() {
    // A kernel that cannot is slower, not wrong.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
}

/// Milliseconds after which the allocator gives back to the system what is free.
const PURGE_DELAY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "10");

/// Starts the program anew, in its place, with the allocator's setting: it is read before `main`. With the usual second as
/// much again comes in before what is free has gone, and under load a third more is resident.
fn give_back_soon() {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        let (name, value) = PURGE_DELAY;
        if std::env::var_os(name).is_none()
            && let Ok(program) = std::env::current_exe()
        {
            let mut args = std::env::args_os();
            let called = args.next().unwrap_or_else(|| program.clone().into());
            // Where that cannot be it goes on as it is, and takes more.
            let _ = std::process::Command::new(program).arg0(called).args(args).env(name, value).exec();
        }
    }
}
