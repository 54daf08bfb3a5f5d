"""Nodes of libtorrent's DHT in one process, one on each address.

Without a node to join by, the first of them founds the DHT and the others join by it. Prints `listening` once all of
them know others, and serves for ever.
"""

import argparse
import time

import libtorrent as lt

# How many others each node has to know.
KNOWN = 4


def settings(address, bootstrap):
    """libtorrent's own, but for a machine on which all nodes are young and ask much at once."""
    return {
        "aio_threads": 1,
        "alert_mask": lt.alert.category_t.dht_notification | lt.alert.category_t.error_notification,
        "dht_block_ratelimit": 1000,
        "dht_bootstrap_nodes": bootstrap,
        "enable_dht": True,
        "enable_lsd": False,
        "enable_natpmp": False,
        "enable_upnp": False,
        "hashing_threads": 1,
        "listen_interfaces": address,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", default="", help="ADDRESS:PORT")
    parser.add_argument("addresses", nargs="+", help="ADDRESS:PORT")
    args = parser.parse_args()

    founder = args.bootstrap or args.addresses[0]
    sessions = []
    for address in args.addresses:
        sessions.append(lt.session(settings(address, "" if address == founder else founder)))
    # A node hands out only those that have answered it, and by itself it asks one new node in 5 s or so.
    for session in sessions:
        for address in args.addresses:
            ip, port = address.rsplit(":", 1)
            session.add_dht_node((ip, int(port)))

    wanted = min(KNOWN, len(sessions) - 1)
    known = [-1] * len(sessions)
    ready = False
    while True:
        for i, session in enumerate(sessions):
            for alert in session.pop_alerts():
                if isinstance(alert, lt.session_stats_alert):
                    known[i] = alert.values["dht.dht_nodes"]
                else:
                    print(f"{args.addresses[i]}: {type(alert).__name__}: {alert.message()}", flush=True)
            if not ready:
                session.post_session_stats()
        if not ready and min(known) >= wanted:
            ready = True
            print("listening", flush=True)
        time.sleep(0.05)


main()
