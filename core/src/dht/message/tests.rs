use super::query::Signed;
use super::*;
use crate::dht::node_id::NodeId;
use crate::id::InfoHash;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

/// The ids of BEP 5's examples.
const ALPHA: NodeId = NodeId(*b"abcdefghij0123456789");
const MIKE: NodeId = NodeId(*b"mnopqrstuvwxyz123456");
const DIGITS: NodeId = NodeId(*b"0123456789abcdefghij");

fn message(body: Body<'_>) -> Message<'_> {
    Message { version: None, ..Message::new(transaction(b"aa"), body) }
}

fn query(id: NodeId, method: Method<'_>) -> Message<'_> {
    message(Body::Query(Query::new(id, method)))
}

fn reply(reply: Reply<'_>) -> Message<'_> {
    message(Body::Reply(reply))
}

fn transaction(bytes: &[u8]) -> Transaction {
    Transaction::new(bytes).unwrap()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn read_reply(datagram: &[u8]) -> Reply<'_> {
    match Message::parse(datagram).unwrap().body {
        Body::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

/// A reply from `ALPHA` with these pairs.
fn a_reply(pairs: &[u8]) -> Vec<u8> {
    [b"d1:rd2:id20:abcdefghij0123456789", pairs, b"e1:t2:aa1:y1:re"].concat()
}

/// A query from `ALPHA` with these pairs behind the id.
fn a_query(method: &str, pairs: &[u8]) -> Vec<u8> {
    let head = format!("e1:q{}:{method}1:t2:aa1:y1:qe", method.len());
    [b"d1:ad2:id20:abcdefghij0123456789", pairs, head.as_bytes()].concat()
}

#[test]
fn the_packets_of_bep_5_are_read_and_written() {
    let torrent = InfoHash(MIKE.0);
    let announce =
        Announce { info_hash: torrent, implied_port: true, port: 6881, seed: false, token: b"aoeusnth" };
    let peers = [addr("97.120.106.101:11893"), addr("105.100.104.116:28269")];
    let failed = ErrorReply { code: ErrorCode::GENERIC, text: b"A Generic Error Ocurred" };
    let nodes = Some(Nodes::Compact(b"def456..."));
    let table: [(&[u8], Message<'_>); 10] = [
        (b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee", message(Body::Error(failed))),
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", query(ALPHA, Method::Ping)),
        (b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re", reply(Reply::new(MIKE))),
        (
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
            query(ALPHA, Method::FindNode { target: MIKE }),
        ),
        (
            b"d1:rd2:id20:0123456789abcdefghij5:nodes9:def456...e1:t2:aa1:y1:re",
            reply(Reply { nodes, ..Reply::new(DIGITS) }),
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
            query(ALPHA, Method::GetPeers { info_hash: torrent, noseed: false, scrape: false }),
        ),
        (
            b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
            reply(Reply {
                token: Some(b"aoeusnth"),
                values: Some(Values::Addrs(&peers)),
                ..Reply::new(ALPHA)
            }),
        ),
        (
            b"d1:rd2:id20:abcdefghij01234567895:nodes9:def456...5:token8:aoeusnthe1:t2:aa1:y1:re",
            reply(Reply { nodes, token: Some(b"aoeusnth"), ..Reply::new(ALPHA) }),
        ),
        (
            b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e\
              5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
            query(ALPHA, Method::AnnouncePeer(announce)),
        ),
        (b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re", reply(Reply::new(MIKE))),
    ];
    for (bytes, expected) in table {
        let text = bytes.escape_ascii();
        assert_eq!(Message::parse(bytes), Ok(expected), "{text}");
        assert_eq!(expected.encode(), bytes, "{text}");
    }
}

#[test]
fn what_later_beps_add_is_read_and_written() {
    let (key, signature) = (&[b'k'; 32], &[b's'; 64]);
    let torrent = InfoHash(MIKE.0);
    let signed = Signed { cas: Some(4), key, salt: b"foobar", seq: 5, signature };
    let want =
        Query { want: Want { n4: true, n6: true }, ..Query::new(ALPHA, Method::FindNode { target: MIKE }) };
    let announce = Announce { info_hash: torrent, implied_port: false, port: 1, seed: true, token: b"" };
    let item = ItemPart { key: Some(key), seq: Some(5), signature: Some(signature), value: Some(b"li1ee") };
    let contacts = [
        Contact { id: MIKE, addr: addr("1.2.3.4:258") },
        Contact { id: MIKE, addr: addr("[2001:db8::1]:258") },
    ];
    let blooms = Blooms { peers: &[b'p'; BLOOM_LEN], seeds: &[b's'; BLOOM_LEN] };
    let samples = Samples { interval: 60, count: 7, hashes: &[ALPHA.0, MIKE.0] };
    let (k, s) = ("k".repeat(32), "s".repeat(64));
    let (bloom_p, bloom_s) = ("p".repeat(256), "s".repeat(256));
    let ip = Some(addr("[2001:db8::1]:258"));
    let id = "2:id20:abcdefghij0123456789";
    let mike = "20:mnopqrstuvwxyz123456";
    let table = [
        (
            format!("d1:ad{id}6:target{mike}4:wantl2:n42:n6ee1:q9:find_node1:t2:aa1:y1:qe"),
            message(Body::Query(want)),
        ),
        (
            format!(
                "d1:ad{id}9:info_hash{mike}6:noseedi1e3:pad160:{}6:scrapei1ee1:q9:get_peers2:roi1e1:t2:aa1:y1:qe",
                "\0".repeat(160)
            ),
            Message {
                read_only: true,
                ..query(ALPHA, Method::GetPeers { info_hash: torrent, noseed: true, scrape: true })
            },
        ),
        (
            format!(
                "d1:ad{id}9:info_hash{mike}4:porti1e4:seedi1e5:token0:e1:q13:announce_peer1:t2:aa1:y1:qe"
            ),
            query(ALPHA, Method::AnnouncePeer(announce)),
        ),
        (
            format!("d1:ad{id}3:seqi9e6:target{mike}e1:q3:get1:t2:aa1:y1:qe"),
            query(ALPHA, Method::Get { target: MIKE, seq: Some(9) }),
        ),
        (
            format!("d1:ad{id}5:token1:t1:vi7ee1:q3:put1:t2:aa1:y1:qe"),
            query(ALPHA, Method::Put(Put { signed: None, token: b"t", value: b"i7e" })),
        ),
        (
            format!(
                "d1:ad3:casi4e{id}1:k32:{k}4:salt6:foobar3:seqi5e3:sig64:{s}5:token1:t1:vd1:ai1eee\
                 1:q3:put1:t2:aa1:y1:qe"
            ),
            query(ALPHA, Method::Put(Put { signed: Some(signed), token: b"t", value: b"d1:ai1ee" })),
        ),
        (
            format!("d1:ad{id}6:target{mike}e1:q17:sample_infohashes1:t2:aa1:v4:LT\u{1}\u{2}1:y1:qe"),
            Message {
                version: Some(b"LT\x01\x02"),
                ..query(ALPHA, Method::SampleInfohashes { target: MIKE })
            },
        ),
        (
            format!("d1:ad{id}6:target{mike}e1:q6:future1:t2:aa1:y1:qe"),
            query(ALPHA, Method::Unknown { name: b"future", target: Some(MIKE) }),
        ),
        (
            format!("d1:rd{id}1:k32:{k}3:seqi5e3:sig64:{s}1:vli1eee1:t2:aa1:y1:re"),
            reply(Reply { item, ..Reply::new(ALPHA) }),
        ),
        (
            format!("d1:rd4:BFpe256:{bloom_p}4:BFsd256:{bloom_s}{id}e1:t2:aa1:y1:re"),
            reply(Reply { blooms: Some(blooms), ..Reply::new(ALPHA) }),
        ),
        (
            format!(
                "d1:rd{id}8:intervali60e3:numi7e7:samples40:abcdefghij0123456789mnopqrstuvwxyz123456e1:t2:aa1:y1:re"
            ),
            reply(Reply { samples: Some(samples), ..Reply::new(ALPHA) }),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(Message::parse(text.as_bytes()), Ok(expected), "{text}");
        assert_eq!(expected.encode(), text.as_bytes(), "{text}");
    }
    // Those with bytes that are no text.
    let nodes = Some(Nodes::Contacts(&contacts));
    let with_nodes = Message { ip, ..reply(Reply { nodes, nodes6: nodes, ..Reply::new(ALPHA) }) };
    let bytes = [
        b"d2:ip18:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x021:rd2:id20:abcdefghij0123456789"
            .as_slice(),
        b"5:nodes26:mnopqrstuvwxyz123456\x01\x02\x03\x04\x01\x02",
        b"6:nodes638:mnopqrstuvwxyz123456\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x02",
        b"e1:t2:aa1:y1:re",
    ]
    .concat();
    assert_eq!(Message::parse(&bytes), Ok(with_nodes));
    assert_eq!(with_nodes.encode(), bytes);
}

#[test]
fn careless_writers_are_understood() {
    // Unsorted, repeated and unknown keys, bytes behind the end, an address without a port.
    let message = Message::parse(
        b"d1:y1:q1:zle1:t8:01234567aa1:q4:ping1:q3:get2:ip4:\x08\x08\x08\x081:ad2:id20:abcdefghij01\
            234567891:xd1:ylee1:qi1eee.....",
    );
    assert_eq!(message, Err(Malformed::Garbage), "a key is no text");
    let message = Message::parse(
        b"d1:y1:q1:zle1:t8:012345671:q4:ping1:q3:get2:ip4:\x08\x08\x08\x081:ad1:xd1:ylee2:id20:abcdefghij0123456789ee..",
    )
    .unwrap();
    let Body::Query(query) = message.body else { panic!("{message:?}") };
    assert_eq!((query.id, query.method), (ALPHA, Method::Ping));
    assert_eq!((message.transaction.as_bytes(), message.ip), (&b"01234567"[..], Some(addr("8.8.8.8:0"))));

    // An unknown query about a torrent leads on from there.
    let future = a_query("future", b"9:info_hash20:mnopqrstuvwxyz123456");
    let Body::Query(query) = Message::parse(&future).unwrap().body else { panic!() };
    assert_eq!(query.method, Method::Unknown { name: b"future", target: Some(MIKE) });

    // An implied port makes the other one worthless.
    let announce =
        a_query("announce_peer", b"12:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234565:token1:t");
    let Body::Query(Query { method: Method::AnnouncePeer(announce), .. }) =
        Message::parse(&announce).unwrap().body
    else {
        panic!()
    };
    assert_eq!(announce.addr(addr("9.9.9.9:99")), addr("9.9.9.9:99"));
    assert_eq!(
        Announce { implied_port: false, port: 7, ..announce }.addr(addr("9.9.9.9:99")),
        addr("9.9.9.9:7")
    );
}

#[test]
fn errors_of_any_shape_are_errors() {
    let generic = ErrorCode::GENERIC;
    for (e, code, text) in [
        ("1:eli203e4:oopse", ErrorCode::PROTOCOL, "oops"),
        ("1:eli203ee", ErrorCode::PROTOCOL, ""),
        ("1:el4:oopsi204ee", ErrorCode::UNKNOWN_METHOD, "oops"),
        ("1:el4:oopse", generic, "oops"),
        ("1:e4:oops", generic, "oops"),
        ("1:ed4:codei203ee", generic, ""),
        ("1:ele", generic, ""),
        ("1:ei7e", generic, ""),
        ("", generic, ""),
    ] {
        let datagram = format!("d{e}1:t2:aa1:y1:ee");
        let expected = Body::Error(ErrorReply { code, text: text.as_bytes() });
        assert_eq!(Message::parse(datagram.as_bytes()).unwrap().body, expected, "{datagram}");
    }
    let long = format!("d1:eli201e1000:{}e1:t2:aa1:y1:ee", "x".repeat(1000));
    let Body::Error(error) = Message::parse(long.as_bytes()).unwrap().body else { panic!() };
    assert_eq!(error.text.len(), 256);
}

#[test]
fn transactions_have_up_to_16_bytes() {
    for len in 0..40 {
        let bytes = vec![b'#'; len];
        let datagram =
            [format!("d1:rd2:id20:abcdefghij0123456789e1:t{len}:").as_bytes(), &bytes, b"1:y1:re"].concat();
        match Message::parse(&datagram) {
            Ok(message) => {
                assert!(len <= MAX_TRANSACTION_LEN && message.transaction.as_bytes() == bytes);
                assert_eq!(message.encode(), datagram);
            }
            Err(error) => assert!(len > MAX_TRANSACTION_LEN && error == Malformed::Garbage),
        }
    }
    assert_eq!(Transaction::from(0x6162), transaction(b"ab"));
    assert_ne!(transaction(b"a"), transaction(b"a\0"));
    assert_eq!(format!("{} {:?}", transaction(b"ab"), transaction(b"")), "6162 Transaction()");
}

#[test]
fn what_is_no_message_is_refused() {
    let query = |why| Err(Malformed::Query(transaction(b"aa"), why));
    let table: [(&[u8], Result<Message<'_>, Malformed>); 22] = [
        (b"", Err(Malformed::Garbage)),
        (b"\0", Err(Malformed::Garbage)),
        (b"le", Err(Malformed::Garbage)),
        (b"de", Err(Malformed::Garbage)),
        (b"d1:t2:aa1:y1:xe", Err(Malformed::Garbage)),
        (b"d1:ti1e1:y1:re", Err(Malformed::Garbage)),
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:y1:qe", Err(Malformed::Garbage)),
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aae", Err(Malformed::Garbage)),
        (b"d1:ad2:id20:abcdefghij0123456789e1:t2:aa1:y1:qe", query("without a method")),
        (b"d1:q4:ping1:t2:aa1:y1:qe", query("without arguments")),
        (b"d1:ale1:q4:ping1:t2:aa1:y1:qe", query("without arguments")),
        (b"d1:ad2:id19:abcdefghij012345678e1:q4:ping1:t2:aa1:y1:qe", query("without its sender's id")),
        (b"d1:rd2:id19:abcdefghij012345678e1:t2:aa1:y1:re", Err(Malformed::Reply(transaction(b"aa")))),
        (b"d1:rle1:t2:aa1:y1:re", Err(Malformed::Reply(transaction(b"aa")))),
        (&a_query("find_node", b""), query("without a target")),
        (&a_query("find_node", b"6:target19:mnopqrstuvwxyz12345"), query("without a target")),
        (&a_query("get_peers", b"6:target20:mnopqrstuvwxyz123456"), query("without an info_hash")),
        (&a_query("get", b""), query("without a target")),
        (&a_query("sample_infohashes", b""), query("without a target")),
        (&a_query("put", b"5:token1:t"), query("without a value")),
        (&a_query("put", b"1:vi1e"), query("without a token of ours")),
        (&a_query(&"x".repeat(33), b""), query("without a method")),
    ];
    for (datagram, expected) in table {
        assert_eq!(Message::parse(datagram), expected, "{}", datagram.escape_ascii());
    }
    let announce = |port: &str, token: usize| {
        let token = format!("5:token{token}:{}", "t".repeat(token));
        a_query("announce_peer", format!("9:info_hash20:mnopqrstuvwxyz123456{port}{token}").as_bytes())
    };
    for port in ["", "4:porti0e", "4:porti65536e", "4:porti-1e", "4:port4:6881"] {
        assert_eq!(Message::parse(&announce(port, 1)), query("without a port"), "{port}");
    }
    assert_eq!(Message::parse(&announce("4:porti1e", MAX_TOKEN_LEN + 1)), query("without a token of ours"));
    assert!(Message::parse(&announce("4:porti65535e", MAX_TOKEN_LEN)).is_ok());
    let (k, sig) = (["1:k32:", &"k".repeat(32)].concat(), ["3:sig64:", &"s".repeat(64)].concat());
    for (signed, why) in [
        (["1:k31:", &k[7..], "3:seqi1e", &sig].concat(), "with a key that is not 32 bytes"),
        ([&k, "3:seqi-1e", &sig].concat(), "without a seq from 0 on"),
        ([&k, "", &sig].concat(), "without a seq from 0 on"),
        ([&k, "3:seqi1e", "3:sig1:s"].concat(), "without a signature of 64 bytes"),
    ] {
        let put = a_query("put", format!("{signed}5:token1:t1:vi1e").as_bytes());
        assert_eq!(Message::parse(&put), query(why), "{signed}");
    }
    assert_eq!(
        format!("{}", Malformed::Query(transaction(b"aa"), "without a target")),
        "a query without a target"
    );
}

#[test]
fn node_lists_are_taken_as_far_as_they_make_sense() {
    let node = |i: u8, port: u8| [&[i; 20][..], &[8, 8, 8, i, 0, port]].concat();
    let list = |nodes: &[u8]| a_reply(&[format!("5:nodes{}:", nodes.len()).as_bytes(), nodes].concat());
    let count = |nodes: &[u8]| read_reply(&list(nodes)).contacts(Family::V4).count();
    let nodes = |n: u8| (0..n).flat_map(|i| node(i, 1)).collect::<Vec<u8>>();
    assert_eq!([0, 8, 16, 20, 21, 200].map(|n| count(&nodes(n))), [0, 8, 16, 20, 20, 20]);
    assert_eq!(count(&nodes(3)[..77]), 2, "what is left behind the last whole node is ignored");
    assert_eq!(count(&[node(1, 0), node(2, 7), node(3, 0)].concat()), 1, "port 0 is skipped");
    let contact = Contact { id: NodeId([2; 20]), addr: addr("8.8.8.2:7") };
    assert_eq!(read_reply(&list(&node(2, 7))).contacts(Family::V4).next(), Some(contact));
    assert_eq!(read_reply(&list(&node(2, 7))).contacts(Family::V6).count(), 0);
    let odd = a_reply(b"5:nodesle6:nodes6i1e");
    assert!(read_reply(&odd).nodes.is_none() && read_reply(&odd).nodes6.is_none(), "no strings");

    let node6 =
        |i: u8| [&[i; 20][..], &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, i, 0, 7]].concat();
    let six = [node6(1), node6(2)].concat();
    let datagram = a_reply(&[b"6:nodes676:", &six[..]].concat());
    let contacts: Vec<_> = read_reply(&datagram).contacts(Family::V6).map(|contact| contact.addr).collect();
    assert_eq!(contacts, [addr("[2001:db8::1]:7"), addr("[2001:db8::2]:7")]);
}

#[test]
fn peers_are_taken_in_whatever_form_they_come() {
    let four = |i: u8| [8, 8, 8, i, 0, 7];
    let peer = |i: u8| addr(&format!("8.8.8.{i}:7"));
    let six = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 7];
    let peer6 = addr("[2001:db8::1]:7");
    let read = |values: &[&[u8]]| {
        let datagram = a_reply(&[b"6:values", &values.concat()[..]].concat());
        read_reply(&datagram).values.map(|values| values.iter().collect::<Vec<_>>())
    };
    assert_eq!(read(&[b"l6:", &four(1), b"6:", &four(2), b"e"]), Some(vec![peer(1), peer(2)]));
    assert_eq!(
        read(&[b"l6:", &four(1), b"18:", &six, b"6:", &four(2), b"e"]),
        Some(vec![peer(1), peer6, peer(2)])
    );
    let three = [four(1), four(2), four(3)].concat();
    let all = Some(vec![peer(1), peer(2), peer(3)]);
    assert_eq!(read(&[b"18:", &three]), all, "as one string");
    assert_eq!(
        read(&[b"l24:", &three, &four(4), b"e"]),
        Some((1..5).map(peer).collect()),
        "as a list of one"
    );
    assert_eq!(read(&[b"l7:", &three[..7], b"i1elede6:", &four(2), b"5:12345e"]), Some(vec![peer(2)]));
    assert_eq!(read(&[b"l6:\x08\x08\x08\x08\0\0e"]), Some(vec![]), "port 0");
    assert_eq!(read(&[b"le"]), Some(vec![]));
    assert_eq!((read(&[b"de"]), read(&[b"i1e"])), (None, None));
    let many: Vec<u8> = (0..=255).flat_map(|i| [b"6:", &four(i)[..]].concat()).collect();
    assert_eq!(read(&[b"l", &many, b"e"]).unwrap().len(), MAX_VALUES_READ);
}

#[test]
fn a_reply_stays_within_a_datagram() {
    let peers: Vec<SocketAddr> = (1..=100).map(|port| SocketAddr::from(([8, 8, 8, 8], port))).collect();
    let (value, contacts) = (&[b"996:".as_slice(), &[b'x'; 996]].concat(), contacts());
    let full = Reply {
        nodes: Some(Nodes::Contacts(&contacts)),
        nodes6: Some(Nodes::Contacts(&contacts)),
        token: Some(b"01234567"),
        values: Some(Values::Addrs(&peers)),
        ..Reply::new(ALPHA)
    };
    let ip = Some(addr("8.8.8.8:8"));
    let whole = Message { ip, ..Message::new(transaction(b"aa"), Body::Reply(full)) };
    let datagram = whole.encode();
    assert!((MAX_LEN - 8..=MAX_LEN).contains(&datagram.len()), "{}", datagram.len());
    let read = read_reply(&datagram);
    let counts = (read.contacts(Family::V4).count(), read.contacts(Family::V6).count());
    assert_eq!((counts, read.values.unwrap().iter().count()), ((8, 8), 49));

    // An item's value may take more, and its nodes come along as far as they fit.
    let item =
        ItemPart { key: Some(&[1; 32]), seq: Some(i64::MAX), signature: Some(&[2; 64]), value: Some(value) };
    let whole = Message {
        ip,
        ..Message::new(transaction(&[7; 16]), Body::Reply(Reply { item, values: None, ..full }))
    };
    let datagram = whole.encode();
    assert!((MAX_LEN..=MAX_ITEM_MESSAGE_LEN).contains(&datagram.len()), "{}", datagram.len());
    let read = read_reply(&datagram);
    assert_eq!(read.item, item);
    assert!(read.contacts(Family::V4).count() > 0);

    // And the largest item of all goes into one message.
    let signed =
        Signed { cas: Some(i64::MAX), key: &[1; 32], salt: &[b's'; 64], seq: i64::MAX, signature: &[2; 64] };
    let put = Put { signed: Some(signed), token: &[b't'; 20], value };
    let put = Message::new(transaction(b"aaaa"), Body::Query(Query::new(ALPHA, Method::Put(put)))).encode();
    assert!(put.len() <= MAX_ITEM_MESSAGE_LEN, "{}", put.len());
}

/// D-05: three times the bytes that were asked with.
#[test]
fn a_reply_stays_within_its_budget() {
    let contacts = contacts();
    let peers: Vec<SocketAddr> = (1..=100).map(|port| SocketAddr::from(([8, 8, 8, 8], port))).collect();
    let blooms = Some(Blooms { peers: &[1; BLOOM_LEN], seeds: &[2; BLOOM_LEN] });
    let item =
        ItemPart { key: Some(&[1; 32]), seq: Some(1), signature: Some(&[2; 64]), value: Some(b"4:tiny") };
    let hashes = [[7; 20]; 20];
    let samples = Some(Samples { interval: 21_600, count: 20, hashes: &hashes });
    let ip = Some(addr("[2001:db8::1]:65535"));
    let token = Some(b"01234567".as_slice());
    let (nodes, values) = (Some(Nodes::Contacts(&contacts)), Some(Values::Addrs(&peers)));
    let all = Reply { id: ALPHA, blooms, item, nodes, nodes6: nodes, samples, token, values };
    let plain = Reply { values, nodes, token, ..Reply::new(ALPHA) };
    let shortest = a_query("ping", b"").len() - "aa".len();
    assert_eq!(shortest, 54);
    let with_target = shortest + "6:target20:mnopqrstuvwxyz123456".len();
    for (reply, shortest) in [
        (Reply { token, ..Reply::new(ALPHA) }, shortest),
        (plain, with_target),
        (Reply { samples, nodes, nodes6: nodes, ..Reply::new(ALPHA) }, with_target),
        (all, with_target),
    ] {
        let message = Message { ip, ..Message::new(transaction(&[b'#'; 16]), Body::Reply(reply)) };
        for budget in 3 * shortest..=MAX_ITEM_MESSAGE_LEN {
            let datagram = message.encode_within(budget);
            assert!(datagram.len() <= budget, "{} of {budget}", datagram.len());
            let read = read_reply(&datagram);
            assert_eq!((read.id, read.token), (reply.id, reply.token));
        }
    }
    // What a usual query for peers of an unknown asker brings.
    let asked = query(ALPHA, Method::GetPeers { info_hash: InfoHash(MIKE.0), noseed: false, scrape: false });
    let message =
        Message { ip: Some(addr("8.8.8.8:8")), ..Message::new(transaction(b"aa"), Body::Reply(plain)) };
    let datagram = message.encode_within(3 * asked.encode().len());
    let read = read_reply(&datagram);
    assert_eq!((read.contacts(Family::V4).count(), read.values.unwrap().iter().count()), (4, 9));
}

#[test]
fn an_error_loses_its_words_before_it_is_too_long() {
    let failed = ErrorReply { code: ErrorCode::PROTOCOL, text: b"without a target" };
    let message = message(Body::Error(failed));
    let len = message.encode().len();
    assert_eq!(message.encode_within(len), b"d1:eli203e16:without a targete1:t2:aa1:y1:ee");
    assert_eq!(message.encode_within(len - 1), b"d1:eli203e0:e1:t2:aa1:y1:ee");
}

#[test]
fn what_is_longer_than_it_should_be_is_taken_as_absent() {
    let token = |len: usize| a_reply(format!("5:token{len}:{}", "t".repeat(len)).as_bytes());
    assert_eq!(read_reply(&token(MAX_TOKEN_LEN)).token.map(<[u8]>::len), Some(MAX_TOKEN_LEN));
    assert_eq!(read_reply(&token(MAX_TOKEN_LEN + 1)).token, None);
    let version = |len: usize| format!("d1:eli201e0:e1:t2:aa1:v{len}:{}1:y1:ee", "v".repeat(len));
    let read = |len| Message::parse(version(len).as_bytes()).unwrap().version.map(<[u8]>::len);
    assert_eq!((read(4), read(16), read(17)), (Some(4), Some(16), None));
    let samples = |interval: i64, num: i64| {
        let datagram = a_reply(format!("8:intervali{interval}e3:numi{num}e7:samples0:").as_bytes());
        read_reply(&datagram).samples.map(|samples| (samples.interval, samples.count))
    };
    assert_eq!(samples(21_600, 9), Some((21_600, 9)));
    assert_eq!(samples(21_601, -1), Some((21_600, 0)));
    assert_eq!(samples(-1, i64::MAX), Some((0, i64::MAX)));
}

fn contacts() -> Vec<Contact> {
    let four = (1..=8).map(|i| SocketAddr::from(([8, 8, 8, i], 7)));
    let six = (1..=8).map(|i| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, i], 7)));
    four.chain(six).map(|addr| Contact { id: MIKE, addr }).collect()
}

#[test]
fn messages_have_one_line_in_traces() {
    let announce =
        Announce { info_hash: InfoHash(MIKE.0), implied_port: true, port: 1, seed: true, token: b"" };
    let values = Some(Values::Addrs(&[]));
    for (message, line) in [
        (query(ALPHA, Method::Ping), "query t=6161 ping from=61626364"),
        (
            query(ALPHA, Method::AnnouncePeer(announce)),
            "query t=6161 announce_peer from=61626364 port=1 implied seed target=6d6e6f70",
        ),
        (
            Message { read_only: true, ..query(ALPHA, Method::Get { target: MIKE, seq: Some(3) }) },
            "query t=6161 get from=61626364 seq=3 target=6d6e6f70 read-only",
        ),
        (
            reply(Reply { nodes: Some(Nodes::default()), values, token: Some(b"t"), ..Reply::new(MIKE) }),
            "reply t=6161 from=6d6e6f70 nodes=0 values=0 token",
        ),
        (
            message(Body::Error(ErrorReply { code: ErrorCode::SERVER, text: b"\x1b!" })),
            "error t=6161 202 \u{fffd}!",
        ),
    ] {
        assert_eq!(format!("{message}"), line);
    }
}

/// What a message borrows from, in tests that make messages up.
#[derive(Clone, Debug)]
struct Parts {
    arrays: ([u8; 20], [u8; 32], [u8; 64]),
    bytes: Vec<u8>,
    contacts: Vec<Contact>,
    flags: [bool; 8],
    numbers: [i64; 2],
    addrs: Vec<SocketAddr>,
    transaction: Vec<u8>,
}

fn addrs() -> impl Strategy<Value = SocketAddr> {
    let v4 = (any::<[u8; 4]>(), 1..=u16::MAX).prop_map(SocketAddr::from);
    // In front of this there are only addresses of IPv4.
    let v6 = (any::<[u16; 7]>(), 1..=u16::MAX).prop_map(|([a, b, c, d, e, f, g], port)| {
        SocketAddr::from(([a | 0x2000, b, c, d, e, f, g, 1], port))
    });
    prop_oneof![v4, v6]
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        (any::<[u8; 20]>(), any::<[u8; 32]>(), any::<[u8; 32]>()),
        prop::collection::vec(any::<u8>(), 0..32),
        prop::collection::vec((any::<[u8; 20]>(), addrs()), 0..9),
        any::<[bool; 8]>(),
        any::<[u32; 2]>(),
        prop::collection::vec(addrs(), 0..12),
        prop::collection::vec(any::<u8>(), 0..=16),
    )
        .prop_map(|((a, b, c), bytes, contacts, flags, numbers, addrs, transaction)| Parts {
            arrays: (a, b, [c, b].concat().try_into().unwrap()),
            bytes,
            contacts: contacts.into_iter().map(|(id, addr)| Contact { id: NodeId(id), addr }).collect(),
            flags,
            numbers: numbers.map(i64::from),
            addrs,
            transaction,
        })
}

impl Parts {
    /// Every kind of message.
    fn messages(&self) -> Vec<Message<'_>> {
        let (id, key, signature) = (NodeId(self.arrays.0), &self.arrays.1, &self.arrays.2);
        let target = NodeId(*key.first_chunk().unwrap());
        let info_hash = InfoHash(target.0);
        let signed = Signed {
            cas: self.flags[0].then_some(self.numbers[1]),
            key,
            salt: &self.bytes,
            seq: self.numbers[0],
            signature,
        };
        let put = Put { signed: self.flags[1].then_some(signed), token: &self.bytes, value: b"d1:ali1eee" };
        let announce = Announce {
            info_hash,
            implied_port: self.flags[2],
            port: (self.numbers[0] as u16).max(1),
            seed: self.flags[3],
            token: &self.bytes,
        };
        let methods = [
            Method::AnnouncePeer(announce),
            Method::FindNode { target },
            Method::Get { target, seq: self.flags[0].then_some(self.numbers[0]) },
            Method::GetPeers { info_hash, noseed: self.flags[0], scrape: self.flags[1] },
            Method::Ping,
            Method::Put(put),
            Method::SampleInfohashes { target },
            Method::Unknown { name: b"future", target: self.flags[0].then_some(target) },
        ];
        let nodes = Some(Nodes::Contacts(&self.contacts));
        let reply = Reply {
            id,
            blooms: None,
            item: ItemPart {
                key: self.flags[0].then_some(key),
                seq: self.flags[1].then_some(self.numbers[0]),
                signature: self.flags[2].then_some(signature),
                value: self.flags[3].then_some(b"2:hi"),
            },
            nodes: nodes.filter(|_| self.flags[4]),
            nodes6: nodes.filter(|_| self.flags[5]),
            samples: None,
            token: self.flags[6].then_some(&self.bytes),
            values: self.flags[7].then_some(Values::Addrs(&self.addrs)),
        };
        let error = ErrorReply { code: ErrorCode(self.numbers[0]), text: &self.bytes };
        let want = Want { n4: self.flags[4], n6: self.flags[5] };
        let queries = methods.map(|method| Body::Query(Query { id, method, want }));
        let bodies = queries.into_iter().chain([Body::Reply(reply), Body::Error(error)]);
        let message = bodies.map(|body| Message {
            transaction: Transaction::new(&self.transaction).unwrap(),
            body,
            read_only: self.flags[6],
            version: self.flags[7].then_some(VERSION),
            ip: self.addrs.first().copied(),
        });
        message.collect()
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_alike(parts in parts()) {
        for message in parts.messages() {
            let datagram = message.encode();
            prop_assert!(datagram.len() <= MAX_LEN);
            prop_assert_eq!(Message::parse(&datagram), Ok(message));
            let canonical = crate::bencode::Document::parse(&datagram, Limits::WIRE).unwrap();
            prop_assert!(canonical.quirks().is_empty() && canonical.end() == datagram.len());
        }
    }

    /// Also a message with a byte changed, which gets further than bytes without order.
    #[test]
    fn whatever_is_read_can_be_written(
        parts in parts(),
        at in any::<prop::sample::Index>(),
        byte: u8,
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        prop_assert!(Message::parse(&noise).is_err());
        for message in parts.messages() {
            let mut datagram = message.encode();
            let at = at.index(datagram.len());
            datagram[at] = byte;
            if let Ok(message) = Message::parse(&datagram) {
                assert!(!format!("{message}").is_empty());
                let written = message.encode();
                prop_assert_eq!(Message::parse(&written), Ok(message));
            }
        }
    }
}
