//! What becomes of a message: the state machine of its fate, and the header fields that we add.
