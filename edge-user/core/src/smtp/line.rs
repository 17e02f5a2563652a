//! Lines: only CRLF ends one.
