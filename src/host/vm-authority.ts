import 'reflect-metadata';
import { createPrivateKey, createPublicKey, webcrypto } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import { failed, ok, type Result } from '../base/result.ts';
import { type VmId, vmId } from '../ft/identity.ts';
import { type ChannelCredentials, vmUri } from '../transport/credentials.ts';
import { KEYS, NOT_AFTER, NOT_BEFORE, privateKeyPem, serialNumber } from './self-signed.ts';

const SERVER_AUTHENTICATION = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTHENTICATION = '1.3.6.1.5.5.7.3.2';
/** What a VM's owner keeps: whoever has it can join the VM's pair. PEM texts. */
interface AuthorityFile {
  readonly certificate: string;
  readonly key: string;
}

/** Issues the certificates of one VM's logging channel. Its own key never leaves it but into its file. */
export class VmAuthority {
  readonly #vm: VmId;
  readonly #certificate: x509.X509Certificate;
  readonly #key: webcrypto.CryptoKey;

  private constructor(vm: VmId, certificate: x509.X509Certificate, key: webcrypto.CryptoKey) {
    this.#vm = vm;
    this.#certificate = certificate;
    this.#key = key;
  }

  static async create(name: string): Promise<VmAuthority> {
    const vm = vmId(name);
    const keys = await webcrypto.subtle.generateKey(KEYS, true, ['sign', 'verify']);
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: serialNumber(),
      name: 'CN=Lockstep VM authority',
      notBefore: NOT_BEFORE,
      notAfter: NOT_AFTER,
      signingAlgorithm: KEYS,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      ],
    });
    return new VmAuthority(vm, certificate, keys.privateKey);
  }

  /** The authority in this folder's `authority.json` (mode 0600), made when there is none. */
  static async inFolder(vm: string, folder: string): Promise<Result<VmAuthority>> {
    const path = join(folder, 'authority.json');
    try {
      return ok(await VmAuthority.parse(vm, await readFile(path, 'utf8')));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        return failed(`${path} is no authority: ${(error as Error).message}`);
    }
    const made = await VmAuthority.create(vm);
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await writeFile(path, made.encode(), { mode: 0o600, flag: 'wx' });
    } catch (error) {
      return failed(`cannot write ${path}: ${(error as Error).message}`);
    }
    return ok(made);
  }

  /** Reads what `encode` wrote; rejects what is none. */
  static async parse(vm: string, text: string): Promise<VmAuthority> {
    const { certificate, key } = JSON.parse(text) as AuthorityFile;
    const own = createPrivateKey(key);
    const parsed = new x509.X509Certificate(certificate);
    const right = createPublicKey(own).equals(createPublicKey(certificate));
    if (!right) throw new Error('its key is not that of its certificate');
    const pkcs8 = own.export({ format: 'der', type: 'pkcs8' });
    const imported = await webcrypto.subtle.importKey('pkcs8', pkcs8, KEYS, true, ['sign']);
    return new VmAuthority(vmId(vm), parsed, imported);
  }

  /** Certificate and key, as JSON: whoever has it can join the VM's pair. */
  encode(): string {
    const file: AuthorityFile = {
      certificate: this.#certificate.toString('pem'),
      key: privateKeyPem(this.#key),
    };
    return JSON.stringify(file);
  }

  /** A new key and its certificate, good for both roles, which take turns. */
  async issue(): Promise<ChannelCredentials> {
    const keys = await webcrypto.subtle.generateKey(KEYS, true, ['sign', 'verify']);
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: 'CN=Lockstep VM instance',
      issuer: this.#certificate.subject,
      notBefore: NOT_BEFORE,
      notAfter: NOT_AFTER,
      signingAlgorithm: KEYS,
      publicKey: keys.publicKey,
      signingKey: this.#key,
      extensions: [
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: vmUri(this.#vm) }]),
        new x509.ExtendedKeyUsageExtension([SERVER_AUTHENTICATION, CLIENT_AUTHENTICATION]),
      ],
    });
    return {
      authority: this.#certificate.toString('pem'),
      certificate: certificate.toString('pem'),
      key: privateKeyPem(keys.privateKey),
    };
  }
}
