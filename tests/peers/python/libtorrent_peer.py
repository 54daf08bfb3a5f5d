"""libtorrent as a process of its own: seeds what FOLDER holds of a torrent and downloads the rest, for ever.

Prints `complete` once it has everything and all of it is written; what else libtorrent reports goes there too.
"""

import argparse

import libtorrent as lt


def settings(port, link, dht, lsd):
    """libtorrent's own settings but for what finds peers, which must be what the test allows alone."""
    categories = lt.alert.category_t
    result = {
        "alert_mask": categories.connect_notification
        | categories.dht_notification
        | categories.error_notification
        | categories.peer_notification
        | categories.status_notification
        | categories.storage_notification
        | categories.tracker_notification,
        "dht_bootstrap_nodes": dht,
        "enable_dht": bool(dht),
        "enable_lsd": lsd,
        "enable_natpmp": False,
        "enable_upnp": False,
        "listen_interfaces": f"0.0.0.0:{port},[::]:{port}",
    }
    utp, tcp = link == "utp", link != "utp"
    result |= {"enable_outgoing_utp": utp, "enable_incoming_utp": utp}
    result |= {"enable_outgoing_tcp": tcp, "enable_incoming_tcp": tcp}
    if link in ("encrypted", "plaintext", "rc4"):
        result |= {"in_enc_policy": lt.enc_policy.forced, "out_enc_policy": lt.enc_policy.forced}
    if link in ("plaintext", "rc4"):
        result["allowed_enc_level"] = getattr(lt.enc_level, link)
    return result


def join(session):
    """Waits for the DHT: a torrent that comes too early is looked up again after a quarter of an hour."""
    known = 0
    while not known:
        session.post_session_stats()
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.session_stats_alert):
                known = alert.values["dht.dht_nodes"]
            else:
                print(f"{type(alert).__name__}: {alert.message()}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dht", default="", help="the node by which to join the DHT: ADDRESS:PORT")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--link", choices=["encrypted", "plaintext", "rc4", "tcp", "utp"], required=True)
    parser.add_argument("--lsd", action="store_true", help="call into the local network")
    parser.add_argument("--pex", action="store_true", help="exchange addresses with peers")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=int, default=0, help="bytes a second at most, up and down")
    parser.add_argument("source", help="a metainfo file or a magnet link")
    parser.add_argument("peers", nargs="*", help="ADDRESS:PORT")
    args = parser.parse_args()

    session = lt.session(settings(args.port, args.link, args.dht, args.lsd))
    if args.dht:
        join(session)
    if args.source.startswith("magnet:"):
        params = lt.parse_magnet_uri(args.source)
    else:
        params = lt.load_torrent_file(args.source)
    params.save_path = args.folder
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if not args.pex:
        params.flags |= lt.torrent_flags.disable_pex
    torrent = session.add_torrent(params)
    # The session's own limits don't hold on a local network.
    torrent.set_download_limit(args.rate)
    torrent.set_upload_limit(args.rate)
    for peer in args.peers:
        address, port = peer.rsplit(":", 1)
        torrent.connect_peer((address.strip("[]"), int(port)))

    finished = False
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            print(f"{type(alert).__name__}: {alert.message()}", flush=True)
            if isinstance(alert, lt.torrent_finished_alert):
                finished = True
                torrent.flush_cache()
            if finished and isinstance(alert, lt.cache_flushed_alert):
                print("complete", flush=True)
                finished = False


main()
