"""Names of operations that do nothing but compute: a model file may ask for these while it is loaded, and for no others."""

_ELEMENTWISE = """
    abs accumulate_n acos acosh add add_n angle approx_max_k approx_min_k argmax argmin argsort asin asinh atan atan2 atanh
    bessel_i0 bessel_i0e bessel_i1 bessel_i1e betainc bincount ceil confusion_matrix conj cos cosh count_nonzero cumprod
    cumsum cumulative_logsumexp digamma divide divide_no_nan equal erf erfc erfcinv erfinv exp expm1 floor floordiv
    floormod greater greater_equal igamma igammac imag in_top_k invert_permutation is_finite is_inf is_nan l2_normalize
    lbeta less less_equal lgamma log log1p log_sigmoid log_softmax logical_and logical_not logical_or logical_xor maximum
    minimum mod multiply multiply_no_nan ndtri neg negative nextafter not_equal polygamma polyval pow real reciprocal
    reciprocal_no_nan reduce_all reduce_any reduce_euclidean_norm reduce_logsumexp reduce_max reduce_mean reduce_min
    reduce_prod reduce_std reduce_sum reduce_variance rint round rsqrt scalar_mul segment_max segment_mean segment_min
    segment_prod segment_sum sigmoid sign sin sinh softmax softplus softsign sqrt square squared_difference subtract tan
    tanh top_k truediv unsorted_segment_max unsorted_segment_mean unsorted_segment_min unsorted_segment_prod
    unsorted_segment_sqrt_n unsorted_segment_sum xdivy xlog1py xlogy zero_fraction zeta
"""
_SHAPES = """
    approx_top_k batch_to_space bitcast boolean_mask broadcast_dynamic_shape broadcast_static_shape broadcast_to cast
    clip_by_global_norm clip_by_norm clip_by_value complex concat constant convert_to_tensor cross dynamic_partition
    dynamic_stitch edit_distance eig eigvals einsum ensure_shape expand_dims extract_volume_patches eye fill
    gather gather_nd guarantee_const histogram_fixed_width histogram_fixed_width_bins identity identity_n linspace matmul
    matrix_square_root meshgrid norm one_hot ones ones_like pad parallel_stack range rank realdiv repeat
    required_space_to_batch_paddings reshape reverse reverse_sequence roll saturate_cast scatter_nd searchsorted
    sequence_mask shape shape_n size slice sort space_to_batch space_to_batch_nd split squeeze stack stop_gradient
    strided_slice tensor_scatter_nd_add tensor_scatter_nd_max tensor_scatter_nd_min tensor_scatter_nd_sub
    tensor_scatter_nd_update tensordot tile transpose truncatediv truncatemod unique unique_with_counts unravel_index
    unstack where zeros zeros_like
"""
_WITHIN = {
    "math": _ELEMENTWISE,
    "": _ELEMENTWISE + _SHAPES,
    "linalg": """
        adjoint band_part banded_triangular_solve cholesky cholesky_solve cross det diag diag_part eig eigh
        eigh_tridiagonal eigvals eigvalsh einsum expm eye global_norm inv l2_normalize logdet logm lstsq lu
        lu_matrix_inverse lu_reconstruct lu_solve matmul matrix_rank matrix_transpose matvec norm normalize pinv qr
        set_diag slogdet solve sqrtm svd tensor_diag tensor_diag_part tensordot trace triangular_solve tridiagonal_matmul
        tridiagonal_solve
    """,
    "nn": """
        atrous_conv2d atrous_conv2d_transpose avg_pool avg_pool1d avg_pool2d avg_pool3d
        batch_norm_with_global_normalization batch_normalization bias_add collapse_repeated conv1d conv1d_transpose conv2d
        conv2d_transpose conv3d conv3d_transpose conv_transpose convolution crelu ctc_beam_search_decoder
        ctc_greedy_decoder ctc_loss depth_to_space depthwise_conv2d dilation2d dropout elu embedding_lookup erosion2d
        fractional_avg_pool fractional_max_pool gelu in_top_k isotonic_regression l2_loss l2_normalize leaky_relu
        local_response_normalization log_poisson_loss log_softmax lrn max_pool max_pool1d max_pool2d max_pool3d
        max_pool_with_argmax moments normalize_moments pool relu relu6 selu separable_conv2d sigmoid
        sigmoid_cross_entropy_with_logits silu softmax softmax_cross_entropy_with_logits softplus softsign space_to_batch
        space_to_depth sparse_softmax_cross_entropy_with_logits sufficient_statistics swish tanh top_k
        weighted_cross_entropy_with_logits weighted_moments with_space_to_batch zero_fraction
    """,
    "signal": """
        dct fft fft2d fft3d fftnd fftshift frame hamming_window hann_window idct ifft ifft2d ifft3d ifftnd ifftshift
        inverse_mdct inverse_stft irfft irfft2d irfft3d irfftnd kaiser_bessel_derived_window kaiser_window
        linear_to_mel_weight_matrix mdct mfccs_from_log_mel_spectrograms overlap_and_add rfft rfft2d rfft3d rfftnd stft
        vorbis_window
    """,
    "image": """
        adjust_brightness adjust_contrast adjust_gamma adjust_hue adjust_saturation central_crop
        combined_non_max_suppression convert_image_dtype crop_and_resize crop_to_bounding_box draw_bounding_boxes
        extract_glimpse extract_patches flip_left_right flip_up_down generate_bounding_box_proposals grayscale_to_rgb
        hsv_to_rgb image_gradients non_max_suppression non_max_suppression_overlaps non_max_suppression_padded
        non_max_suppression_with_scores pad_to_bounding_box per_image_standardization psnr random_brightness
        random_contrast random_crop random_flip_left_right random_flip_up_down random_hue random_saturation resize
        resize_with_crop_or_pad resize_with_pad rgb_to_grayscale rgb_to_hsv rgb_to_yiq rgb_to_yuv rot90 sobel_edges ssim
        ssim_multiscale total_variation transpose yiq_to_rgb yuv_to_rgb
        resize_bilinear resize_nearest_neighbor resize_bicubic resize_area resize_images
    """,
    "bitwise": "bitwise_and bitwise_or bitwise_xor invert left_shift right_shift",
    "dtypes": "as_dtype cast complex saturate_cast",
    "random": """
        categorical gamma normal poisson shuffle stateless_binomial stateless_categorical stateless_gamma stateless_normal
        stateless_poisson stateless_truncated_normal stateless_uniform truncated_normal uniform
    """,
    "quantization": """
        dequantize fake_quant_with_min_max_args fake_quant_with_min_max_vars fake_quant_with_min_max_vars_per_channel
        quantize quantize_and_dequantize quantize_and_dequantize_v2
    """,
    "keras.activations": """
        elu exponential gelu hard_sigmoid linear mish relu selu sigmoid softmax softplus softsign swish tanh
    """,
    "keras.backend": """
        abs all any arange argmax argmin batch_dot batch_flatten batch_normalization bias_add binary_crossentropy cast
        cast_to_floatx categorical_crossentropy clip concatenate constant conv1d conv2d conv2d_transpose conv3d cos cumprod
        cumsum depthwise_conv2d dot dropout dtype elu equal exp expand_dims eye flatten gather greater greater_equal
        hard_sigmoid in_test_phase in_train_phase in_top_k int_shape l2_normalize less less_equal local_conv1d local_conv2d
        log max maximum mean min minimum ndim not_equal one_hot ones ones_like permute_dimensions pool2d pool3d pow prod
        random_bernoulli random_normal random_uniform relu repeat repeat_elements reshape resize_images resize_volumes
        reverse round separable_conv2d shape sigmoid sign sin softmax softplus softsign spatial_2d_padding
        spatial_3d_padding sqrt square squeeze stack std stop_gradient sum tanh temporal_padding tile to_dense transpose
        truncated_normal var zeros zeros_like
    """,
    "__operators__": """
        abs add and eq floordiv ge getitem gt invert le lt matmul mod mul ne neg or pow radd rand rdiv rfloordiv rmatmul
        rmod rmul ror rpow rsub rtruediv rxor sub truediv xor div
    """,
}
FUNCTIONS = frozenset(f"{space}.{name}".lstrip(".") for space, names in _WITHIN.items() for name in names.split())
"""TensorFlow's functions, as a `TFOpLambda` layer names them, without `compat.v1`."""
ATTRIBUTES = frozenset(
    {"dtype", "ndim", "rank", "shape", "values", "row_splits", "flat_values", "indices", "dense_shape"}
)
"""Properties of tensors, as an `InstanceProperty` layer names them."""
METHODS = frozenset(
    {
        "get_shape",
        "with_values",
        "with_flat_values",
        "row_lengths",
        "nrows",
        "value_rowids",
        "bounding_shape",
        "to_tensor",
    }
)
"""Methods of tensors, as an `InstanceMethod` layer names them."""
_NODES = """
    Abs Acos Acosh Add AddN AddV2 All Any ArgMax ArgMin Asin Asinh Atan Atan2 Atanh AvgPool AvgPool3D BatchMatMul
    BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd BroadcastTo Cast Ceil ClipByValue Complex Concat ConcatV2 Conj Const
    Conv2D Conv2DBackpropInput Conv3D Cos Cosh Cross Cumprod Cumsum DepthToSpace DepthwiseConv2dNative Diag Div DivNoNan
    Einsum Elu Equal Erf Erfc Exp ExpandDims Expm1 Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2
    FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual Identity IdentityN Imag IsFinite IsInf IsNan L2Loss LRN
    LeakyRelu Less LessEqual LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul MatrixBandPart
    MatrixDiag MatrixDiagPart MatrixTranspose Max MaxPool MaxPool3D MaxPoolV2 Maximum Mean Min Minimum
    MirrorPad Mod Mul MulNoNan Neg NotEqual OneHot OnesLike Pack Pad PadV2 Pow Prod Range Rank Real RealDiv Reciprocal
    Relu Relu6 Reshape ResizeBicubic ResizeBilinear ResizeNearestNeighbor ReverseSequence ReverseV2 Rint Roll Round Rsqrt
    ScatterNd Select SelectV2 Selu Shape ShapeN Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToBatchND
    SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze StopGradient StridedSlice Sub Sum Tan Tanh Tile TopKV2
    Transpose TruncateDiv TruncateMod Unpack Where Xdivy Xlogy ZerosLike
"""
NODES = frozenset(_NODES.split())
"""Operators of graphs, as a `TensorFlowOpLayer` names them."""


def known(function: str) -> bool:
    """Whether a function, given by its full name in TensorFlow, does nothing but compute."""
    return function.removeprefix("compat.v1.").removeprefix("compat.v2.") in FUNCTIONS
