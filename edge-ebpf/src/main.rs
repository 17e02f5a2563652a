//! The XDP program: drops what is known to be bad before the kernel allocates a socket buffer.
//!
//! Only TCP to the protected ports is ever judged; everything else passes untouched, so no rule can lock the
//! operator out. In order: `ALLOW`, `BANS`, `BLOCKS` (both spare never-ban prefixes), the SYN budget of the source.
//! Bans and blocks carry their own end, so they are over in time even when the daemon is gone.
//!
//! [`parse`] finds out whether a packet is ours, [`judge`] what becomes of it, and here it is counted. All limits
//! are constants of [`parse`] or sizes of [`maps`].
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(any(target_arch = "bpf", feature = "lint"))]
mod budget;
#[cfg(any(target_arch = "bpf", feature = "lint"))]
mod clock;
#[cfg(any(target_arch = "bpf", feature = "lint"))]
mod judge;
#[cfg(any(target_arch = "bpf", feature = "lint"))]
mod maps;
#[cfg(any(target_arch = "bpf", feature = "lint"))]
mod parse;
#[cfg(any(target_arch = "bpf", feature = "lint"))]
mod program;
#[cfg(any(target_arch = "bpf", feature = "lint"))]
mod sample;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here can panic: a reachable panic would not pass the verifier.
    loop {}
}

/// The kernel takes the program under this licence; GPL-only helpers need its second half.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
