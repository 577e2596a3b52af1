// What the machine is told: how the router and links are made, and the scripts that get rid of them, whoever runs them.
// The scripts are constants; what varies comes as arguments, never as program text.

import type { NetworkChange, NetworkThing } from "#spawner/door.ts";

/** The router's device towards the host. */
export const uplink = "uplink";
const withoutIpv6: NetworkThing = { kind: "switch", name: "ipv6/conf/all/disable_ipv6", value: "1" };

/** Undone by whoever comes later, with whatever environment that has. */
const path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH\n";
const deleteAttempts = 20;

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

/** Where a link's two ends are, and what it is. */
export interface LinkEnds {
  /** Pins of the sandbox's namespace and of the router's. */
  readonly namespace: string;
  readonly router: string;
  /** Of its device in the router. */
  readonly device: string;
  readonly address: string;
  readonly gateway: string;
}

/**
 * The router: a namespace of its own with one link to the host. Hardware addresses are given, so that udev does not change them later,
 * and neighbours are static: a link that has to ask who is there costs a second when the first question is lost.
 */
export function routerChanges(router: {
  readonly namespace: string;
  readonly device: string;
  readonly gateway: string;
  readonly address: string;
  readonly subnet: string;
}): readonly NetworkChange[] {
  const { namespace, device, gateway, address, subnet } = router;
  const [outside, inside] = [hardwareAddress(0x02, gateway), hardwareAddress(0x02, address)];
  const off = (name: string): NetworkThing => ({ kind: "switch", name, value: "0" });
  return [
    {
      namespace,
      fresh: true,
      things: [
        withoutIpv6,
        { kind: "switch", name: "ipv4/ip_forward", value: "1" },
        ...["all", "default"].flatMap((one) => [
          off(`ipv4/conf/${one}/rp_filter`),
          off(`ipv4/conf/${one}/send_redirects`),
        ]),
      ],
    },
    {
      namespace: null,
      things: [
        { kind: "pair", device, hardware: outside, peer: { device: uplink, hardware: inside, namespace } },
        // No address of IPv6 that the kernel makes up.
        { kind: "switch", name: `ipv6/conf/${device}/addr_gen_mode`, value: "1" },
        { kind: "address", device, address: gateway },
        { kind: "up", device },
        { kind: "route", device, to: address },
        { kind: "route", device, to: subnet, via: address, source: gateway },
        { kind: "neighbour", device, address, hardware: inside },
      ],
    },
    {
      namespace,
      things: [
        { kind: "up", device: "lo" },
        { kind: "address", device: uplink, address },
        { kind: "up", device: uplink },
        { kind: "route", device: uplink, to: gateway },
        { kind: "route", device: uplink, to: null, via: gateway },
        { kind: "neighbour", device: uplink, address: gateway, hardware: outside },
      ],
    },
  ];
}

/**
 * Links between sandboxes' namespaces, which are made, and the router. Low ports are open to unprivileged users inside: the
 * namespace is the sandbox's own, and it has no capability in it.
 */
export function linkChanges(links: readonly LinkEnds[]): readonly NetworkChange[] {
  return links.flatMap(({ namespace, router, device, address, gateway }) => {
    const [inside, outside] = [hardwareAddress(0x02, address), hardwareAddress(0x06, address)];
    const own: NetworkChange = {
      namespace,
      fresh: true,
      things: [
        withoutIpv6,
        { kind: "switch", name: "ipv4/ip_unprivileged_port_start", value: "0" },
        { kind: "up", device: "lo" },
        { kind: "pair", device: "eth0", hardware: inside, peer: { device, hardware: outside, namespace: router } },
        { kind: "address", device: "eth0", address },
        { kind: "up", device: "eth0" },
        { kind: "route", device: "eth0", to: null, via: gateway },
        { kind: "neighbour", device: "eth0", address: gateway, hardware: outside },
      ],
    };
    const routers: NetworkChange = {
      namespace: router,
      things: [
        { kind: "up", device },
        { kind: "route", device, to: address },
        { kind: "neighbour", device, address, hardware: inside },
      ],
    };
    return [own, routers];
  });
}

/** Locally administered (the bit 2 of the first byte), made from the IPv4 address: unique where the address is. */
function hardwareAddress(first: number, address: string): string {
  const bytes = [first, 0xeb, ...address.split(".").map(Number)];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}
