"""The strategy `deepetpicker`: a U-Net with coordinate channels, Dice loss and mean-pooling."""
