/** The functions of TensorFlow's C library that the engine calls, as `Deno.dlopen` takes them. @module */

const P = "pointer", B = "buffer", I = "i32", L = "i64", U = "usize", V = "void";

/** By name: what they take and give. */
export const C_API = {
  TF_Version: { parameters: [], result: P },
  TF_NewStatus: { parameters: [], result: P },
  TF_DeleteStatus: { parameters: [P], result: V },
  TF_GetCode: { parameters: [P], result: I },
  TF_Message: { parameters: [P], result: P },
  TF_SetStatus: { parameters: [P, I, B], result: V },

  TF_AllocateTensor: { parameters: [I, B, I, U], result: P },
  TF_TensorData: { parameters: [P], result: P },
  TF_TensorByteSize: { parameters: [P], result: U },
  TF_TensorType: { parameters: [P], result: I },
  TF_TensorElementCount: { parameters: [P], result: L },
  TF_DeleteTensor: { parameters: [P], result: V },
  TF_StringInit: { parameters: [P], result: V },
  TF_StringCopy: { parameters: [P, B, U], result: V },
  TF_StringGetDataPointer: { parameters: [P], result: P },
  TF_StringGetSize: { parameters: [P], result: U },

  TFE_NewContextOptions: { parameters: [], result: P },
  TFE_DeleteContextOptions: { parameters: [P], result: V },
  TFE_ContextOptionsSetDevicePlacementPolicy: { parameters: [P, I], result: V },
  TFE_NewContext: { parameters: [P, P], result: P },
  TFE_ContextListDevices: { parameters: [P, P], result: P },
  TF_DeleteDeviceList: { parameters: [P], result: V },
  TF_DeviceListCount: { parameters: [P], result: I },
  TF_DeviceListName: { parameters: [P, I, P], result: P },
  TFE_ContextAddFunction: { parameters: [P, P, P], result: V },
  TFE_ContextRemoveFunction: { parameters: [P, B, P], result: V },

  TFE_NewTensorHandle: { parameters: [P, P], result: P },
  TFE_DeleteTensorHandle: { parameters: [P], result: V },
  TFE_TensorHandleDataType: { parameters: [P], result: I },
  TFE_TensorHandleNumDims: { parameters: [P, P], result: I },
  TFE_TensorHandleDim: { parameters: [P, I, P], result: L },
  TFE_TensorHandleResolve: { parameters: [P, P], result: P },
  TFE_TensorHandleCopySharingTensor: { parameters: [P, P], result: P },

  TFE_NewOp: { parameters: [P, B, P], result: P },
  TFE_DeleteOp: { parameters: [P], result: V },
  TFE_OpSetDevice: { parameters: [P, B, P], result: V },
  TFE_OpAddInput: { parameters: [P, P, P], result: V },
  TFE_Execute: { parameters: [P, B, B, P], result: V },
  TFE_ExecuteOffThread: { name: "TFE_Execute", parameters: [P, B, B, P], result: V, nonblocking: true },
  TFE_OpSetAttrShape: { parameters: [P, B, B, I, P], result: V },

  TF_NewGraph: { parameters: [], result: P },
  TF_DeleteGraph: { parameters: [P], result: V },
  TF_NewOperation: { parameters: [P, B, B], result: P },
  TF_FinishOperation: { parameters: [P, P], result: P },
  TF_AddInput: { parameters: [P, { struct: [P, I] }], result: V },
  TF_AddInputList: { parameters: [P, B, I], result: V },
  TF_OperationNumOutputs: { parameters: [P], result: I },
  TF_OperationOutputType: { parameters: [{ struct: [P, I] }], result: I },
  TF_GraphGetTensorNumDims: { parameters: [P, { struct: [P, I] }, P], result: I },
  TF_GraphGetTensorShape: { parameters: [P, { struct: [P, I] }, B, I, P], result: V },
  TF_OperationGetAttrTensor: { parameters: [P, B, B, P], result: V },
  TF_SetAttrTensor: { parameters: [P, B, P, P], result: V },
  TF_SetAttrShape: { parameters: [P, B, B, I], result: V },
  TF_GraphToFunction: { parameters: [P, B, "u8", I, B, I, B, I, B, P, P, P, P], result: P },
  TF_GraphCopyFunction: { parameters: [P, P, P, P], result: V },
  TF_DeleteFunction: { parameters: [P], result: V },
} as const;

/** What follows the operation and the attribute's name, by the kind of its value. */
const ONE = { String: [B, U], Int: [L], Float: ["f32"], Bool: ["u8"], Type: [I] } as const;
const LISTS = {
  StringList: [B, B, I],
  IntList: [B, I],
  FloatList: [B, I],
  BoolList: [B, I],
  TypeList: [B, I],
} as const;

/** Set attributes: of eager operations, and of a graph's. */
export const SETTERS: Deno.ForeignLibraryInterface = Object.fromEntries(
  ["TFE_Op", "TF_"].flatMap((prefix) =>
    Object.entries({ ...ONE, ...LISTS }).map(([kind, value]) =>
      [`${prefix}SetAttr${kind}`, { parameters: [P, B, ...value], result: V }] as const
    )
  ),
);
