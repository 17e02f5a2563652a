//! Giving the program to the kernel's verifier.

use std::io::ErrorKind;

use aya::programs::{ProgramError, Xdp as Program};

/// How often the program is given to the verifier, at most, when signals interrupt it.
const LOAD_TRIES: u32 = 20;

/// Has the kernel verify the program and take it. A signal that comes meanwhile ends the verifier's work with EAGAIN, and
/// says nothing of the program.
pub(super) fn load(program: &mut Program) -> Result<(), ProgramError> {
    for _ in 1..LOAD_TRIES {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
    program.load()
}
