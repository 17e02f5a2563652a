//! `xdp.block` without a NIC that enforces it.

use super::*;

async fn lab_with(xdp: &str) -> Lab {
    let text = CONFIG.replace("UPSTREAM", "192.0.2.1:25").replace("OTHER", "192.0.2.1:25");
    let xdp = parsed(&format!("{text}[xdp]\ninterface = \"eth0\"\nwatch = false\n{xdp}")).xdp;
    Lab::with(Script::default(), |config| config.xdp = xdp).await
}

#[tokio::test]
async fn who_is_blocked_and_gets_past_the_nic_is_told_421() {
    let lab = lab_with("block = [\"127.0.0.0/8\"]").await;
    let mut talk = lab.connect().await;
    talk.expect("421 4.7.1").await;
    talk.expect_end().await;
    assert_eq!(lab.edge.metrics.refused_blocked.get(), 1);
}

#[tokio::test]
async fn a_block_elsewhere_or_under_an_allowed_prefix_turns_nobody_away() {
    lab_with("block = [\"127.128.0.0/9\"]").await.greeted().await;
    lab_with("block = [\"127.0.0.0/8\"]\nallow = [\"127.0.0.1/32\"]").await.greeted().await;
}

#[tokio::test]
async fn in_watch_mode_nobody_is_turned_away_for_a_block() {
    let text = CONFIG.replace("UPSTREAM", "192.0.2.1:25").replace("OTHER", "192.0.2.1:25");
    let xdp = parsed(&format!("{text}[xdp]\ninterface = \"eth0\"\nblock = [\"127.0.0.0/8\"]")).xdp;
    Lab::with(Script::default(), |config| config.xdp = xdp).await.greeted().await;
}
