//! What the daemon gives up once it has loaded the XDP program and has its ports.
//!
//! A user of its own needs a few capabilities for that, and none afterwards: who holds a map's descriptor may write it.
//! They belong to threads, so this comes before the first one is started.

use anyhow::Context as _;
use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::geteuid;

use crate::dataplane::Dataplane;

/// Gives up all capabilities; the one for BPF is kept where the kernel wants it for every call. No program that this
/// process might start gets any back.
///
/// Root stays what it is, and is told so: it owns files that no capability guards, and others may own its own.
///
/// # Errors
/// The kernel refuses to take them.
pub(super) fn give_up(dataplane: Option<&Dataplane>) -> anyhow::Result<()> {
    nix::sys::prctl::set_no_new_privs().context("cannot give up gaining privileges")?;
    if geteuid().is_root() {
        tracing::warn!(
            "the edge runs as root, where a user with a few capabilities would do: README (\"Install it as a \
             service\") has the unit for it"
        );
        return Ok(());
    }
    let failed = "cannot give up capabilities";
    let had = caps::read(None, CapSet::Permitted).context(failed)?;
    caps::clear(None, CapSet::Effective).context(failed)?;
    let bpf_alone: CapsHashSet = [Capability::CAP_BPF].into();
    let keep = match dataplane.map(Dataplane::rewrite_settings) {
        Some(Err(_)) if had.contains(&Capability::CAP_BPF) => bpf_alone,
        Some(Ok(()) | Err(_)) | None => CapsHashSet::new(),
    };
    caps::set(None, CapSet::Effective, &keep).context(failed)?;
    caps::set(None, CapSet::Permitted, &keep).context(failed)?;
    // What a program that is started would inherit; the ambient ones go with it.
    caps::clear(None, CapSet::Inheritable).context(failed)?;
    if let (false, Some(dataplane)) = (keep.is_empty(), dataplane) {
        dataplane.rewrite_settings().context("without CAP_NET_ADMIN the kernel's maps cannot be written")?;
        tracing::info!("this kernel wants CAP_BPF for every call: it is kept");
    }
    Ok(())
}
