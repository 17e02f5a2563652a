//! Backstop's load: reflecting servers, bots, honest senders.
