//! The lab: network namespaces joined by veth pairs, and real mail servers in them.
