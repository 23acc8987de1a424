/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and a token for tests. The token is signed by the private key of SPKI, which was thrown away; the private
 * keys below belong to nothing. All are 512 bits, for short texts.
 */
#ifndef VISA_TEST_VECTOR_H
#define VISA_TEST_VECTOR_H

#define TOKEN \
    "joebloggs,1700000000;" \
    "RbkZCOLKKN6yPn0xK9WOKjBeWZzdva9CKG0pNec+Ifg+Z1PJEnSTEDUvCOruqO1vmRhjmmydlFFH/wDj4Qh4Mg=="

#define SPKI \
    "-----BEGIN PUBLIC KEY-----\n" \
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALysWxJ5YLfqoyvls59ZSeaIRk1FqcZL\n" \
    "kAZ74NQKQh1pbWXkkXrOt0OosUP2/E1IcqJu9a/m/YgRyKXEybPC/FMCAwEAAQ==\n" \
    "-----END PUBLIC KEY-----\n"

#define SPKI_CRLF \
    "-----BEGIN PUBLIC KEY-----\r\n" \
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALysWxJ5YLfqoyvls59ZSeaIRk1FqcZL\r\n" \
    "kAZ74NQKQh1pbWXkkXrOt0OosUP2/E1IcqJu9a/m/YgRyKXEybPC/FMCAwEAAQ==\r\n" \
    "-----END PUBLIC KEY-----\r\n"

#define SPKI_NO_NEWLINE \
    "-----BEGIN PUBLIC KEY-----\n" \
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALysWxJ5YLfqoyvls59ZSeaIRk1FqcZL\n" \
    "kAZ74NQKQh1pbWXkkXrOt0OosUP2/E1IcqJu9a/m/YgRyKXEybPC/FMCAwEAAQ==\n" \
    "-----END PUBLIC KEY-----"

#define SPKI_ONE_LINE \
    "-----BEGIN PUBLIC KEY----- " \
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALysWxJ5YLfqoyvls59ZSeaIRk1FqcZL " \
    "kAZ74NQKQh1pbWXkkXrOt0OosUP2/E1IcqJu9a/m/YgRyKXEybPC/FMCAwEAAQ== " \
    "-----END PUBLIC KEY----- "

/* The same key as "RSA PUBLIC KEY". */
#define PKCS1 \
    "-----BEGIN RSA PUBLIC KEY-----\n" \
    "MEgCQQC8rFsSeWC36qMr5bOfWUnmiEZNRanGS5AGe+DUCkIdaW1l5JF6zrdDqLFD\n" \
    "9vxNSHKibvWv5v2IEcilxMmzwvxTAgMBAAE=\n" \
    "-----END RSA PUBLIC KEY-----\n"

#define EC_KEY \
    "-----BEGIN PUBLIC KEY-----\n" \
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEKUf3kQI0bePpChHlG8sy2gn+zeIE\n" \
    "MQ0S/6xtLFc/UmxERTKcl0NO5pFcaFYR2bAOa0pdwukkvYrqh+pkauSglQ==\n" \
    "-----END PUBLIC KEY-----\n"

#define PSS_KEY \
    "-----BEGIN PUBLIC KEY-----\n" \
    "MFowCwYJKoZIhvcNAQEKA0sAMEgCQQDaPIv8wnsOqY67wjuqqSHL9/jwxXWDDVOT\n" \
    "w/YlNL63Ss8I7E7mevj7jeRO/LZefuiOfYs6esC8+fPAVPAWEjjRAgMBAAE=\n" \
    "-----END PUBLIC KEY-----\n"

#define PRIVATE \
    "-----BEGIN PRIVATE KEY-----\n" \
    "MIIBUwIBADANBgkqhkiG9w0BAQEFAASCAT0wggE5AgEAAkEA2KjHICjeIdc+UdFn\n" \
    "l1v5YLBVX0DIhELKC0ewTQ2Wp9v4BcO1TIA+PwxvB5tC24UrcdSqk1CRse/rzLCe\n" \
    "qyuwIQIDAQABAkBGsLLfvFXVxsvvmBprmTfBo2cHgDSsarpPeeF9EozwUUwooxe0\n" \
    "9f0AdzlSbWd0LJCMjLDkT1MoA2BIx9DqybjdAiEA+WnlfMljLHIRpSAEjgSJu7zX\n" \
    "8Y8CWxU0EUSj+hpii+8CIQDeYXP52XK+Fg4HyvFTKgtpFcRaSAd9BztB6Kzbgqm0\n" \
    "7wIgLUDkjZ6wqtjLkM1dZjM2lmSuPbr373TKbLOqmO9+n+sCIFbTTejbUcWN7uR0\n" \
    "BE0oOVRKP2PQg7v5OtW89uCt33zZAiAepU2j2AdFthuToZwMVWhuykOlAU7qYhZd\n" \
    "GmvBTwq/wg==\n" \
    "-----END PRIVATE KEY-----\n"

#define PRIVATE_PKCS1 \
    "-----BEGIN RSA PRIVATE KEY-----\n" \
    "MIIBOQIBAAJBANioxyAo3iHXPlHRZ5db+WCwVV9AyIRCygtHsE0Nlqfb+AXDtUyA\n" \
    "Pj8MbwebQtuFK3HUqpNQkbHv68ywnqsrsCECAwEAAQJARrCy37xV1cbL75gaa5k3\n" \
    "waNnB4A0rGq6T3nhfRKM8FFMKKMXtPX9AHc5Um1ndCyQjIyw5E9TKANgSMfQ6sm4\n" \
    "3QIhAPlp5XzJYyxyEaUgBI4Eibu81/GPAlsVNBFEo/oaYovvAiEA3mFz+dlyvhYO\n" \
    "B8rxUyoLaRXEWkgHfQc7Qeis24KptO8CIC1A5I2esKrYy5DNXWYzNpZkrj269+90\n" \
    "ymyzqpjvfp/rAiBW003o21HFje7kdARNKDlUSj9j0IO7+TrVvPbgrd982QIgHqVN\n" \
    "o9gHRbYbk6GcDFVobspDpQFO6mIWXRprwU8Kv8I=\n" \
    "-----END RSA PRIVATE KEY-----\n"

/* Asks for a passphrase. */
#define ENCRYPTED \
    "-----BEGIN PUBLIC KEY-----\n" \
    "Proc-Type: 4,ENCRYPTED\n" \
    "DEK-Info: AES-128-CBC,0AF78A3CCDD3D34957E7FD360834A3B9\n" \
    "\n" \
    "bV6BpebkuAcwOHoRO1T45T8Z5yLglC5eB7hK3WNmepDlq3dOH59kBWPXynZMYfl3\n" \
    "30VYZzpA376oqppw9S6Vm54Mu+6aZNW/URrw+9zfC+pFjQAmbE2rxjvZsk3EjcUC\n" \
    "NzaJ21lNwpTJURhsWWV84gDpcYhJUxA5Bx1W+jPPcikT29Aecfprn/AVQbIs3oy8\n" \
    "Po4QkOPfVdhiSjiDrItC8Nc+KH+jD2u9Yq9P5P7XJiQzP/Slcb5yFI+saBUNJCTM\n" \
    "MN5Vhjw14pzP9WCaNa9Mp+EQL6QvXzHVITJx/zeLQRs4fl/dFYrPsUWe/Xpu/B20\n" \
    "sTjuH/PAiLvT9+CMzTEwa46AAjFOh2TU/Ybs0p5fxXKgyJuqlPA9fQTLOT6n16zG\n" \
    "WCPaT15NTzxQLw38KSsi9sE3wPM4sQ66wc5IjlH5WtQ=\n" \
    "-----END PUBLIC KEY-----\n"

#endif
