// What `sh` and `ip` are told: making the router and links in few processes, and getting rid of them.
// The scripts are constants; what varies comes as arguments or as lines on stdin, never as program text.

/** Undone by whoever comes later, with whatever environment that has. */
const path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH\n";
const deleteAttempts = 20;

/**
 * $1 directory (pins of namespaces), $2 name of the host's interface, $3 gateway, $4 router address, $5 subnet,
 * $6 and $7 hardware addresses of the host's and of the router's end.
 * Hardware addresses are given, so that udev does not change them later, and neighbours are static: a link that has to
 * ask who is there costs a second when the first question is lost.
 */
export const makeRouter = `${path}set -e
umask 077
mkdir -p "$1"
: > "$1/router"
unshare --net="$1/router" sh -c '
  if [ -e /proc/sys/net/ipv6 ]; then echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; fi
  echo 1 > /proc/sys/net/ipv4/ip_forward
  echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter
  echo 0 > /proc/sys/net/ipv4/conf/default/rp_filter
  echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects
  echo 0 > /proc/sys/net/ipv4/conf/default/send_redirects
'
ip link add name "$2" address "$6" type veth peer name uplink address "$7" netns "$1/router"
ip -batch - <<EOF
link set dev $2 addrgenmode none
address add $3/32 dev $2
link set dev $2 up
route add $4/32 dev $2 scope link
route add $5 via $4 dev $2 src $3
neighbour replace $4 lladdr $7 dev $2 nud permanent
EOF
nsenter --net="$1/router" ip -batch - <<EOF
link set dev lo up
address add $4/32 dev uplink
link set dev uplink up
route add $3/32 dev uplink scope link
route add default via $3 dev uplink
neighbour replace $3 lladdr $6 dev uplink nud permanent
EOF
`;

/**
 * $1 directory, $2 gateway; on stdin a line a link: pin, router's interface, address, hardware address inside, and outside.
 * Each namespace configures itself from within (one process), the router's ends are set in one more for all.
 * Low ports are open to unprivileged users inside: the namespace is the sandbox's own, and it has no capability in it.
 */
export const makeLinks = `${path}set -e
umask 077
dir=$1 gateway=$2 batch=
while read -r pin name address inside outside; do
  : > "$dir/$pin"
  unshare --net="$dir/$pin" sh -c '
    if [ -e /proc/sys/net/ipv6 ]; then echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; fi
    echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
    exec ip -batch -
  ' <<EOF
link set dev lo up
link add name eth0 address $inside type veth peer name $name address $outside netns $dir/router
address add $address/32 dev eth0
link set dev eth0 up
route add default via $gateway dev eth0 onlink
neighbour replace $gateway lladdr $outside dev eth0 nud permanent
EOF
  batch="$batch
link set dev $name up
route replace $address/32 dev $name
neighbour replace $address lladdr $inside dev $name nud permanent"
done
nsenter --net="$dir/router" ip -batch - <<EOF
$batch
EOF
`;

/** $1 directory, then pins, all in two processes: the stop waits for it. A namespace whose processes are gone dies with its pin, and its link with it. */
export const removeLinks = `${path}cd "$1" || exit 0
shift
umount -l "$@" 2>/dev/null
rm -f "$@"
exit 0
`;

/**
 * $1 directory, $2 name of table and interface: everything of one network, in any state. Harmless twice. A table that cannot be
 * deleted at this moment, because another's change is under way, is tried again for a while; then it fails, and is owed still.
 */
export const removeAll = `${path}LC_ALL=C
export LC_ALL
left=0
until words=$(nft delete table inet "$2" 2>&1); do
  case $words in *"No such file"*) break ;; esac
  left=$((left + 1))
  if [ "$left" -ge ${deleteAttempts} ]; then printf '%s\n' "$words" >&2; break; fi
  sleep 0.05
done
ip link delete dev "$2" 2>/dev/null
umount -l "$1"/* 2>/dev/null
rm -rf "$1"
[ "$left" -lt ${deleteAttempts} ]
`;

/**
 * $1 interface, $2 prefix of every daemon's interfaces, $3 our own: routing from it is switched off again, unless somebody
 * (Docker, an operator) has switched routing on for the whole machine since, or another ebb daemon is there that needs it.
 */
export const stopForwarding = `read -r all < /proc/sys/net/ipv4/ip_forward
[ "$all" = 0 ] || exit 0
while IFS=": " read -r name rest; do
  case "$name" in "$3") ;; "$2"*) exit 0 ;; esac
done < /proc/net/dev
echo 0 > "/proc/sys/net/ipv4/conf/$1/forwarding" 2>/dev/null
exit 0
`;

/** Interfaces as arguments. */
export const startForwarding = `for name do echo 1 > "/proc/sys/net/ipv4/conf/$name/forwarding" || exit 1; done
`;

export interface LinkLine {
  readonly pin: string;
  readonly device: string;
  readonly address: string;
}

export function linkLine(link: LinkLine): string {
  return `${link.pin} ${link.device} ${link.address} ${hardwareAddress(0x02, link.address)} ${hardwareAddress(0x06, link.address)}\n`;
}

/** Locally administered (the bit 2 of the first byte), made from the IPv4 address: unique where the address is. */
export function hardwareAddress(first: number, address: string): string {
  const bytes = [first, 0xeb, ...address.split(".").map(Number)];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}
