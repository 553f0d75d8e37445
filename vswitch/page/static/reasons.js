// What each reason of a drop means: English, Chinese. The English is that of the tables under Counters
// in docs/operations.md, and a test holds it there.

import { LANGUAGES, language, t } from "./texts.js";

const FRAMES = {
  runt: [
    "shorter than an Ethernet header, or than the VLAN tag that it announces",
    "短于以太网帧头，或短于其声明的 VLAN 标签",
  ],
  oversize: [
    "longer than the switch's MTU allows: the member's MTU does not match",
    "超过交换机 MTU 所允许的长度：成员的 MTU 不一致",
  ],
  source_multicast: [
    "from a group address, which nobody can own",
    "源地址是组地址，组地址不属于任何主机",
  ],
  source_zero: [
    "from 00:00:00:00:00:00",
    "源地址为 00:00:00:00:00:00",
  ],
  reserved_destination: [
    "to 01-80-C2-00-00-0X (spanning tree, LLDP, 802.1X, PAUSE): for the next bridge, and never passed on",
    "发往 01-80-C2-00-00-0X（生成树、LLDP、802.1X、PAUSE）：只给相邻网桥，从不转发",
  ],
  same_port: [
    "the destination is where the frame came from; usual behind a bridge",
    "目的地就在来的端口上；端口后有网桥时很常见",
  ],
  no_destination: [
    "to be flooded, and no other port is there; usual for the first member",
    "需要泛洪，但没有其他端口；第一个成员时很常见",
  ],
  not_reached: [
    "the destination is on a port that this one does not reach: another VLAN, or isolated from it",
    "目的地所在的端口与来的端口不相通：属于其他 VLAN，或相互隔离",
  ],
  source_guard: [
    "from a MAC or IP address that is not the port's",
    "源 MAC 或 IP 地址不属于该端口",
  ],
  arp_check: [
    "ARP whose sender is not who sends it, or that claims an address of another port",
    "ARP 的发送者与实际发送者不符，或冒用其他端口的地址",
  ],
  dhcp_guard: [
    "what a DHCP server or relay sends, from a port that is not trusted",
    "DHCP 服务器或中继的报文来自未受信任的端口",
  ],
  ra_guard: [
    "an IPv6 router advertisement or redirect, or what could hide one, from a port that is not trusted",
    "IPv6 路由通告或重定向（或可能掩藏它们的报文）来自未受信任的端口",
  ],
  rule_denied: [
    "no rule lets the port that it came from begin that there: vswitch rules and trace name the line; counted where it was to go out, as all drops of rules",
    "没有规则允许来源端口向那里发起：vswitch rules 和 trace 会指出是哪一行；规则的丢弃都在其本应送出的端口计数",
  ],
  rule_undetermined: [
    "rules cannot see what a host would make of it: broken headers, ports that are not all there, a fragment whose first one has not passed, or over what that one says",
    "规则无法判断主机会如何理解它：帧头损坏、端口号不完整、首片未通过或与首片内容重叠的分片",
  ],
  rule_flows: [
    "the port that it came from has begun as many flows as it may",
    "来源端口发起的流已达上限",
  ],
  guard_undetermined: [
    "a guard cannot see what a host would make of it: more than two VLAN tags, IP inside LLC/SNAP, a broken IP header",
    "防护无法判断主机会如何理解它：超过两层 VLAN 标签、LLC/SNAP 内的 IP、损坏的 IP 头",
  ],
  vlan_refused: [
    "of a VLAN that the port does not carry: untagged on a trunk without native, tagged for another VLAN, with a service tag, or with a second tag behind that of its own VLAN; the last one also at a port that it would have left untagged",
    "该端口不承载此 VLAN：无 native 的干道上未加标签、其他 VLAN 的标签、服务标签，或自身 VLAN 标签后还有第二层标签；最后一种也包括本应去标签送出的端口",
  ],
  rate_in: [
    "more bits or frames a second than rate_in and frames_in of the port allow",
    "超过端口 rate_in 和 frames_in 允许的每秒比特数或帧数",
  ],
  rate_out: [
    "more frames a second than frames_out of the port allows; what is above rate_out waits",
    "超过端口 frames_out 允许的每秒帧数；超过 rate_out 的则排队等待",
  ],
  loop_blocked: [
    "the port is shut for a while, because a loop goes through it",
    "有环路经过该端口，端口暂时关闭",
  ],
  loop_probe: [
    "a probe of this switch that came back; each shows a loop",
    "本交换机的探测帧又回来了；每一个都说明有环路",
  ],
  bpdu_guard: [
    "the port is shut for a while, because a bridge has spoken on it",
    "端口上有网桥发言，端口暂时关闭",
  ],
  storm_broadcast: [
    "more broadcasts a second than the port may send",
    "每秒广播数超过端口的限额",
  ],
  storm_multicast: [
    "more frames to groups a second than the port may send",
    "每秒组播帧数超过端口的限额",
  ],
  storm_unknown: [
    "more frames a second to stations that nobody has heard than the port may send",
    "发往未知站点的帧数超过端口每秒的限额",
  ],
  flood_limit: [
    "more copies a second than the port's share of what all floods may make",
    "泛洪副本数超过端口应得的份额",
  ],
  mac_limit: [
    "from one address more than mac_limit of the port allows; see MAC table",
    "地址数超过端口的 mac_limit；见“MAC 表”",
  ],
  mac_refused: [
    "from an address that belongs to another port (static or sticky), or is not in macs of this one",
    "源地址属于其他端口（静态或粘性），或不在本端口的 macs 中",
  ],
  mac_frozen: [
    "from an address that has moved to and fro, and stays where it was: a loop, or two hosts with one address",
    "源地址在端口之间来回移动，被固定在原处：有环路，或两台主机用了同一地址",
  ],
  group_report: [
    "an IGMP or MLD report, which only multicast routers are to hear, and there is none; usual with multicast snooping",
    "IGMP 或 MLD 报告只应由组播路由器接收，而此处没有；启用组播侦听时很常见",
  ],
  queue_full: [
    "the member, or the path to it, is slower than what is sent to it",
    "成员或到它的路径慢于发往它的流量",
  ],
  queue_delay: [
    "a flow has waited too long for the member, or the path to it (CoDel): usual for a transfer, which learns from it how fast the path is",
    "流等待成员或其路径的时间过长（CoDel）：大文件传输时很常见，它由此得知路径的速度",
  ],
  monitor_port: [
    "from a port that gets copies of others (mirror) and takes no part itself",
    "来自接收镜像的端口（mirror），该端口自身不参与通信",
  ],
  impaired: [
    "lost on purpose, by vswitch impair, on either way",
    "被 vswitch impair 有意丢弃，任一方向",
  ],
  port_detached: [
    "the port went down before the frame could leave",
    "帧尚未送出，端口就已断开",
  ],
  feature_failed: [
    "a fault of vswitch met these frames; the port was taken down rather than left without its guards: the log has a line with the traceback and the reference that events shows as fault",
    "vswitch 的故障波及这些帧；端口被关闭，而不是在失去防护的状态下继续工作：日志中有追溯信息和编号，事件中以 fault 显示",
  ],
  bad_superframe: [
    "a member sent a superframe that no honest kernel makes, to be flooded or to be cut",
    "成员发送了正常内核不会产生的超级帧，需要泛洪或切分",
  ],
  host_flood: [
    "more questions than one port may ask, 200 a second; others go on being answered",
    "提问超过单个端口每秒 200 次的限额；其他端口照常得到答复",
  ],
  host_malformed: [
    "a header, length or checksum that no honest host sends",
    "头部、长度或校验和不是正常主机所发",
  ],
  host_fragment: [
    "a fragment of IP: the services put none together",
    "IP 分片：服务不做重组",
  ],
  host_no_service: [
    "to a UDP port or of a protocol that no service listens to; the sender is told so by ICMP",
    "发往没有服务监听的 UDP 端口或协议；发送者会收到 ICMP 通知",
  ],
  host_busy: [
    "a service had not yet taken what came before, or its answers had not yet left",
    "服务尚未取走之前的报文，或其答复尚未送出",
  ],
  host_unresolved: [
    "was to be sent to a station that answers neither ARP nor neighbour discovery",
    "要发往的站点既不应答 ARP 也不应答邻居发现",
  ],
  dhcp_bad: [
    "no message of DHCP, or one that only servers send",
    "不是 DHCP 报文，或是只有服务器才会发的报文",
  ],
  dhcp_relayed: [
    "passed on by a relay agent, or about an address of another network",
    "由中继代理转来，或涉及其他网络的地址",
  ],
  dhcp_spoofed: [
    "the client in it is not who sent it; or a release or decline of what is no lease of that port",
    "其中的客户端不是发送者；或释放、拒绝的并非该端口的租约",
  ],
  dhcp_rate: [
    "more than 1 message a second, 8 at once, from one machine; or more than 10 a second, 64 at once, from all machines behind one port that have no lease there yet",
    "单台机器每秒超过 1 个报文（一次超过 8 个），或同一端口后尚无租约的所有机器合计每秒超过 10 个（一次超过 64 个）",
  ],
  dhcp_port_limit: [
    "the port has as many leases and offers as port_limit allows",
    "端口的租约和报价已达 port_limit",
  ],
  dhcp_no_address: [
    "no address is free",
    "没有空闲地址",
  ],
  dhcp_busy: [
    "256 offers are open",
    "已有 256 个报价未决",
  ],
  dhcp_quiet: [
    "another server was heard, and the switch is silent",
    "听到另一台服务器，交换机保持静默",
  ],
  dhcp_other_server: [
    "the client has chosen another server",
    "客户端选择了另一台服务器",
  ],
  dhcp_not_kept: [
    "the lease could not be written down, or a member had got the address meanwhile",
    "租约无法写入，或地址在此期间已给了某成员",
  ],
  advert_bad: [
    "a router solicitation that no router answers",
    "任何路由器都不会应答的路由请求",
  ],
  advert_soon: [
    "a router solicitation while an advertisement was due already: usual",
    "已有通告待发时收到的路由请求：常见",
  ],
  names_malformed: [
    "no DNS question that can be read",
    "无法读懂的 DNS 问题",
  ],
  names_refused: [
    "a name that is not the LAN's, where nothing is forwarded; a transfer, an update, another class",
    "不属于本局域网的名称，且不转发；或传送、更新、其他类别",
  ],
  names_not_allowed: [
    "a name against the names_allowed of the port; see Names",
    "端口的 names_allowed 不允许的名称；见“名称”",
  ],
  names_busy: [
    "32 questions of that port wait for a resolver already, or 256 of all",
    "该端口已有 32 个问题在等待解析器，或总数已达 256",
  ],
  names_unanswered: [
    "no resolver has answered within 4 s",
    "4 秒内没有解析器应答",
  ],
  names_spoofed: [
    "what came for the answer of a resolver, and was none to the question",
    "冒充解析器应答、却与问题不符的报文",
  ],
  link_down: [
    "somebody has set the interface down",
    "有人关闭了网络接口",
  ],
  malformed: [
    "the kernel took it for no frame",
    "内核认为它不是帧",
  ],
  no_memory: [
    "the kernel had no memory for it",
    "内核没有内存给它",
  ],
  refused: [
    "the kernel refused it for another reason",
    "内核因其他原因拒绝",
  ],
  bad_offload: [
    "another member sent a superframe that must not go to a kernel, or this kernel made one that is none",
    "另一成员发来不可交给内核的超级帧，或本机内核产生了无效的超级帧",
  ],
  control_ignored: [
    "no frame: a control message of a kind that this peer may not send, or that this version does not know",
    "不是帧：对方不可发送、或本版本不认识的控制消息",
  ],
  too_long: [
    "longer than a sealed unit, on the datagram lane; in drops of a port, too",
    "长于一个加密单元（数据报通道）；也计入端口的 drops",
  ],
  resync: [
    "framed TCP was out of step: something else stood where a frame was to begin; how often",
    "带帧 TCP 失步：本应是帧头之处是别的内容；计次数",
  ],
  inbox_full: [
    "a foreign client sent faster than the switch could take it in",
    "外部客户端发得太快，交换机来不及接收",
  ],
  not_kcp: [
    "a foreign KCP client sent in its conversation what is no segment",
    "外部 KCP 客户端在其会话中发来的不是 KCP 段",
  ],
  repeated: [
    "segments of a foreign KCP client that had come already: usual where a path loses",
    "外部 KCP 客户端重复的段：路径有丢包时常见",
  ],
  beyond_window: [
    "segments of a foreign KCP client, more than may wait; they are sent again",
    "外部 KCP 客户端超出等待上限的段；会重发",
  ],
  socket_full: [
    "the kernel took no more of what was to leave for a foreign KCP client; it is sent again",
    "内核不再接收要发给外部 KCP 客户端的数据；会重发",
  ],
  peer_full: [
    "a UNIX datagram client does not read",
    "UNIX 数据报客户端不读取",
  ],
  echo: [
    "with --via: a frame came back from the switch whose source address had been sent from here a second or two before",
    "使用 --via 时：一两秒前由此处发出的源地址，其帧又从交换机回来",
  ],
  unreachable: [
    "the kernel could not send to a foreign client: no route, no permission",
    "内核无法发给外部客户端：没有路由或没有权限",
  ],
  unknown_peer: [
    "with --via udp:// and kcp://: a datagram from another address than that of the URL, or of another conversation",
    "使用 --via udp:// 和 kcp:// 时：数据报来自 URL 以外的地址，或属于其他会话",
  ],
  dhcp: [
    "DHCP on its way through a bridge, where it is not to pass: see --bridge-dhcp",
    "经过网桥、但不应通过的 DHCP：见 --bridge-dhcp",
  ],
  ra: [
    "an IPv6 router advertisement on its way through a bridge, where it is not to pass: see --bridge-ra",
    "经过网桥、但不应通过的 IPv6 路由通告：见 --bridge-ra",
  ],
  disconnected: [
    "on the way when the session ended",
    "会话结束时仍在途中",
  ],
};

const DATAGRAMS = {
  malformed: [
    "shorter or longer than its type allows, or a reserved field is set",
    "短于或长于该类型的允许长度，或保留字段不为零",
  ],
  unknown_type: [
    "of a type that this version does not know: other programs, scanners",
    "本版本不认识的类型：其他程序、扫描器",
  ],
  unknown_index: [
    "for a session that is over; usual after a restart; answered with a reset, unless --silent",
    "属于已结束的会话；重启后常见；以复位应答，除非使用 --silent",
  ],
  bad_version: [
    "another version of the protocol",
    "协议版本不同",
  ],
  bad_mac1: [
    "the sender does not know our key, or the datagram was damaged: scanners, an old invite",
    "发送者不知道我们的密钥，或数据报损坏：扫描器、旧邀请",
  ],
  bad_mac2: [
    "under load, without fresh proof of its address; was answered with a cookie",
    "过载时没有地址的新证明；已用 cookie 应答",
  ],
  rate_limited: [
    "too many handshakes from one address; answered with a cookie",
    "同一地址的握手过多；已用 cookie 应答",
  ],
  proven_limited: [
    "too many handshakes of those with a cookie, and more from this address than from others; a few hundred are usual when all members of a site come back at once, many are an attack",
    "持有 cookie 者的握手过多，且该地址多于其他地址；一处所有成员同时返回时几百个属正常，大量则是攻击",
  ],
  slice_unproven: [
    "a part of a handshake with ML-KEM-768, without fresh proof of its address; was answered with a cookie. Usual where a path takes no large datagrams",
    "带 ML-KEM-768 的握手的一部分，没有地址的新证明；已用 cookie 应答。路径不接受大数据报时很常见",
  ],
  hybrid_off: [
    "a handshake with ML-KEM-768, which this side does not take (--pq off, or an older cryptography); the sender comes with another",
    "带 ML-KEM-768 的握手，本端不接受（--pq off，或 cryptography 较旧）；发送者会换一种再来",
  ],
  repeated_init: [
    "a handshake's first message that was answered already; copies are usual where answers are lost, and get the same answer again",
    "握手的首个消息已应答过；应答丢失时副本很常见，会得到同样的应答",
  ],
  refusal_limited: [
    "somebody who is not let in (revoked, or the switch is full), or asks for a session that is lost, does so more than once a second",
    "不被接受者（已吊销，或交换机已满）或索要丢失会话者，每秒超过一次",
  ],
  half_open_full: [
    "too many handshakes that nobody has completed",
    "无人完成的握手过多",
  ],
  bad_handshake: [
    "the handshake does not open: forged, or another secret",
    "握手无法解开：伪造，或密钥不同",
  ],
  low_order_point: [
    "an attack on the key exchange",
    "对密钥交换的攻击",
  ],
  unknown_peer: [
    "a stranger, or a member of a registry that is lost; met with silence",
    "陌生人，或登记簿丢失后的成员；以沉默应对",
  ],
  stale_timestamp: [
    "a repeated handshake, or a member whose clock went back; was answered with a cookie, with which a true one succeeds",
    "重复的握手，或成员的时钟倒退；已用 cookie 应答，真正的成员凭它成功",
  ],
  cookie_limited: [
    "too many cookies were due",
    "需要发出的 cookie 过多",
  ],
  memory: [
    "sessions ended because all together held too much memory, and these most",
    "会话因总内存过多而结束，占用最多的先结束",
  ],
  core_failed: [
    "sessions and handshakes that ended because something of vswitch failed: a fault to report, with the traceback from the log",
    "因 vswitch 的故障而结束的会话和握手：请附日志中的追溯信息报告",
  ],
  sessions_full: [
    "no room for one more session",
    "没有空间容纳更多会话",
  ],
  key_limited: [
    "one key began more new sessions than five at once and one each second; it waits a moment",
    "同一密钥新建会话超过一次五个、每秒一个；它会稍候",
  ],
  unexpected: [
    "an answer that nobody waits for: late, repeated or forged",
    "无人等待的应答：迟到、重复或伪造",
  ],
  reset_limited: [
    "the switch said again that it has lost the session; once in ten seconds is believed",
    "交换机再次声明会话已丢失；每十秒只信一次",
  ],
  replay: [
    "seen before, or too old; duplicates on the way are usual, many are an attack",
    "见过或过旧；途中重复属正常，大量则是攻击",
  ],
  counter_limit: [
    "a counter that is so high that no sender may use it",
    "计数器高到任何发送者都不可使用",
  ],
  bad_seal: [
    "does not open under the session's key: damaged or forged",
    "用会话密钥解不开：损坏或伪造",
  ],
  expired_key: [
    "under a key that is too old",
    "使用了过旧的密钥",
  ],
  not_kcp: [
    "authentic, and no KCP datagram: a fault in the peer",
    "真实但不是 KCP 数据报：对方的故障",
  ],
  bad_parity: [
    "authentic, and no parity of anything that has come: a fault in the peer",
    "真实但不是已到数据的校验：对方的故障",
  ],
  cpu_share: [
    "of a session that has used its share of the processor, when more of it waited than may: what a member sends costs more time than there is beside the others",
    "会话用完了它的处理器份额，等待的数据又超过限额：成员发来的数据耗时过多，挤占了其他成员",
  ],
  repeated: [
    "segments of a reliable lane that had come already; usual where a path loses, since copies are sent there",
    "可靠通道中已到过的段；路径有丢包时常见，因为会发送副本",
  ],
  beyond_window: [
    "segments of a reliable lane, more than may wait behind a missing one or unread; few while a program does not read, many are a fault in the peer or an attack",
    "可靠通道中超出等待上限的段；程序不读取时会有少量，大量则是对方的故障或攻击",
  ],
  bad_control: [
    "authentic, and no list of control items: a fault in the peer",
    "真实但不是控制项列表：对方的故障",
  ],
  control_limited: [
    "more control datagrams than a session may send",
    "控制数据报超过会话允许的数量",
  ],
  incomplete: [
    "parts of a sealed unit whose others never came; usual where datagrams are lost",
    "加密单元的其余部分始终未到；丢数据报时常见",
  ],
  loose_unasked: [
    "of the datagram lane, which was not agreed, or not yet; a few when a member connects with --lane",
    "未商定（或尚未商定）的数据报通道；成员以 --lane 连接时会有少量",
  ],
  loose_full: [
    "of the datagram lane, when too much of it had not been read",
    "数据报通道中未读的过多",
  ],
  loose_silent: [
    "units of the datagram lane while the other side had fallen silent",
    "对方沉默期间数据报通道的单元",
  ],
  socket_full: [
    "the kernel's send buffer was full; repeated where it mattered",
    "内核发送缓冲区已满；必要时会重发",
  ],
  too_big: [
    "larger than the local interface takes, because its MTU has just become smaller; repeated in smaller ones",
    "大于本地接口所能承受，因其 MTU 刚变小；以更小的重发",
  ],
  pipe_closed: [
    "for a connection (HTTPS) that is closed; sent again on the next path, where it mattered",
    "发往已关闭的连接（HTTPS）；必要时在下一条路径重发",
  ],
  no_filter: [
    "in a flood of handshakes the kernel refused a socket filter: the flood costs more than it has to",
    "握手洪泛时内核拒绝了套接字过滤器：应对洪泛的开销偏高",
  ],
  unreachable: [
    "the kernel could not send: no route, no permission; or, at a member, an ICMP error came back",
    "内核无法发送：没有路由、没有权限；或成员处收到 ICMP 错误",
  ],
};

export const knows = (reason) => Object.hasOwn(FRAMES, reason);

export function meaning(reason, kind = "frames") {
  const found = (kind === "frames" ? FRAMES : DATAGRAMS)[reason];
  return found === undefined ? t("unknown_reason") : found[LANGUAGES.indexOf(language())];
}

// Drops that a LAN has where nothing is wrong.
export const USUAL = new Set(["no_destination", "same_port", "reserved_destination", "group_report"]);

export const dropped = (drops) =>
  Object.entries(drops).reduce((sum, [reason, many]) => sum + (USUAL.has(reason) ? 0 : many), 0);
