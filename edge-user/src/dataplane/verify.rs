//! Giving the program to the kernel's verifier.

use std::io::ErrorKind;

use aya::programs::{ProgramError, Xdp as Program};

/// How often the program is given to the verifier, at most, when signals interrupt it.
const LOAD_TRIES: u32 = 20;

/// Has the kernel verify the program and take it. A signal that comes meanwhile ends the verifier's work with EAGAIN, and
/// says nothing of the program.
pub(super) fn load(program: &mut Program) -> Result<(), ProgramError> {
    until_heard(|| program.load())
}

/// Asks until there is an answer that says something of the program.
fn until_heard(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 1..LOAD_TRIES {
        match load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
    load()
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya_obj::VerifierLog;

    use super::*;

    /// What the kernel answers with this number.
    fn refused(number: i32) -> ProgramError {
        let io_error = io::Error::from_raw_os_error(number);
        ProgramError::LoadError { io_error, verifier_log: VerifierLog::new("at 7: R0 invalid".to_owned()) }
    }

    /// What comes of these answers, by how often was asked; and how often that was in the end.
    fn heard(answers: impl Fn(u32) -> Result<(), ProgramError>) -> (Result<(), ProgramError>, u32) {
        let mut asked = 0;
        let outcome = until_heard(|| {
            asked += 1;
            answers(asked)
        });
        (outcome, asked)
    }

    #[test]
    fn a_verifier_that_a_signal_interrupted_is_asked_again() {
        for interrupted in [0, 1, LOAD_TRIES - 1] {
            let (outcome, asked) =
                heard(|time| if time <= interrupted { Err(refused(libc::EAGAIN)) } else { Ok(()) });
            assert!(outcome.is_ok(), "{outcome:?} after {interrupted} signals");
            assert_eq!(asked, interrupted + 1);
        }
    }

    #[test]
    fn what_the_verifier_says_of_the_program_is_final_and_its_words_are_kept() {
        for answer in [|| refused(libc::EACCES), || ProgramError::AlreadyLoaded] {
            let (outcome, asked) = heard(|_| Err(answer()));
            assert_eq!(outcome.expect_err("refused").to_string(), answer().to_string());
            assert_eq!(asked, 1);
        }
    }

    #[test]
    fn who_is_interrupted_again_and_again_gives_up_and_says_so() {
        let (outcome, asked) = heard(|_| Err(refused(libc::EAGAIN)));
        let error = outcome.expect_err("no answer ever came").to_string();
        assert_eq!(error, refused(libc::EAGAIN).to_string());
        assert_eq!(asked, LOAD_TRIES);
    }
}
