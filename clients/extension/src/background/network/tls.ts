// TLS facts of a response, in the words of the rows of Chromium (the DevTools SecurityDetails).
import type { SecurityInfo } from "./details";

const GROUPS: Readonly<Record<string, string>> = {
  x25519: "X25519", mlkem768x25519: "X25519MLKEM768", secp256r1: "P-256", secp384r1: "P-384", secp521r1: "P-521",
};

/** `AES_128_GCM` of `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`. */
const cipherOf = (suite: string): string => suite.replace(/^TLS_(?:.*_WITH_)?/, "").replace(/_(?:SHA\d*|MD5)$/, "");

const commonName = (subject: string): string => /(?:^|,)\s*CN=((?:\\.|[^,])+)/.exec(subject)?.[1] ?? subject;

/** JSON; undefined when the connection was not secure. */
export const tlsJson = (info: SecurityInfo): string | undefined => {
  if (info.state === "insecure" || info.protocolVersion === undefined) return undefined;
  const [certificate] = info.certificates ?? [];
  const { keaGroupName, cipherSuite } = info;
  return JSON.stringify({
    protocol: info.protocolVersion.replace(/^TLSv/, "TLS "),
    ...(keaGroupName === undefined ? {} : { keyExchangeGroup: GROUPS[keaGroupName] ?? keaGroupName }),
    ...(cipherSuite === undefined ? {} : { cipher: cipherOf(cipherSuite), cipherSuite }),
    ...(certificate === undefined ? {} : {
      subjectName: commonName(certificate.subject), issuer: commonName(certificate.issuer),
      validFrom: certificate.validity.start / 1000, validTo: certificate.validity.end / 1000,
      fingerprint: certificate.fingerprint.sha256,
    }),
    encryptedClientHello: info.usedEch === true,
    untrusted: info.isUntrusted === true || info.isDomainMismatch === true || info.isNotValidAtThisTime === true,
  });
};
