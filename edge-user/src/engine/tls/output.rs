//! The octets that wait to be written, and how rustls puts more behind them.

use std::io;

use crate::engine::pool::{Buffer, Pool};

/// Most octets that rustls itself has to say and the peer does not take, before the connection counts as broken.
const OUTPUT_BYTES_MAX: usize = 128 << 10;

/// What is missing for octets to be put into the output.
pub(super) enum Short {
    /// This much room.
    Of(usize),
    /// They cannot be.
    Never(io::Error),
}

/// Puts octets behind what is in the output, and makes room where there is none.
pub(super) fn put(
    output: &mut Option<Buffer>,
    pool: &Pool,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, Short>,
) -> io::Result<usize> {
    let output = output.get_or_insert_with(|| pool.take_record());
    let mut put = encode(output.room());
    if let Err(Short::Of(bytes)) = put {
        output.compact();
        let bytes_max = output.unread().len() + bytes;
        if bytes_max > OUTPUT_BYTES_MAX {
            return Err(invalid("the peer takes nothing"));
        }
        output.grow(bytes_max);
        put = encode(output.room());
    }
    match put {
        Ok(count) => {
            output.filled(count);
            Ok(count)
        }
        Err(Short::Of(_)) => Err(invalid("a record of no known length")),
        Err(Short::Never(error)) => Err(error),
    }
}

pub(super) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
