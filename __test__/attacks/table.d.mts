type Row = (attack: unknown) => Promise<void>
export declare const groups: Record<
  'together' | 'files' | 'compression' | 'crypto' | 'network' | 'http2' | 'objects' | 'reentrancy',
  Record<string, Row>
>
export declare const rows: Record<string, Row>
export declare const open: Record<string, 'bytes' | 'aborts' | 'error'>
export declare const keepsAddress: readonly string[]
