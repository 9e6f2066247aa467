//! The Internet checksum (RFC 1071): the one's complement of the one's complement sum of 16-bit words.

use std::net::IpAddr;

/// A sum that is still growing. Parts are added in any order; all but the last begin and end on a word.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u32);

impl Sum {
    /// A packet has at most 32 K words of 16 bits: no overflow.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Sum {
        let words =
            bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&b| b.into()));
        Sum(self.0 + words.sum::<u32>())
    }

    /// What IPv4 (RFC 9293, 3.1) and IPv6 (RFC 8200, 8.1) put before a message. Their layouts differ, their
    /// words do not: a length below 65536 and a protocol are one word each in both.
    #[must_use]
    pub fn pseudo_header(self, source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Sum {
        let addressed = self.address(source).address(destination);
        Sum(addressed.0 + u32::from(protocol) + length as u32)
    }

    fn address(self, address: IpAddr) -> Sum {
        match address {
            IpAddr::V4(v4) => self.bytes(&v4.octets()),
            IpAddr::V6(v6) => self.bytes(&v6.octets()),
        }
    }

    #[must_use]
    pub fn checksum(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1071_section_3_example() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.checksum(), !0xddf2);
    }

    #[test]
    fn an_odd_byte_is_the_high_half_of_a_word() {
        assert_eq!(Sum::default().bytes(&[1, 2, 3]).checksum(), !0x0402);
    }

    #[test]
    fn the_longest_packet_does_not_overflow() {
        assert_eq!(Sum::default().bytes(&[0xff; 65535]).checksum(), !0xff00);
    }
}
