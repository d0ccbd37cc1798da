"""The strategy `deepetpicker`: a U-Net with coordinate channels, trained with the Dice loss and picked by mean-pooling."""
